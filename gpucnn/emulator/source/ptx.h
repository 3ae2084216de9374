// ptx.h - helpers for the C++ that ptx.py writes. Registers hold raw bits in unsigned integers.
#pragma once
#include "cuda.h"
#include <cfloat>
#undef blockDim
#undef gridDim
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int8_t s8; typedef int16_t s16; typedef int32_t s32; typedef int64_t s64;
typedef float f32; typedef double f64; typedef _Float16 f16;
#define I static inline __attribute__((always_inline))
template <class D, class S> I D bits(S s) { D d{}; memcpy(&d, &s, sizeof d < sizeof s ? sizeof d : sizeof s); return d; }
template <class T> I auto raw(T v) {
    if constexpr (sizeof(T) == 1) return bits<u8>(v); else if constexpr (sizeof(T) == 2) return bits<u16>(v);
    else if constexpr (sizeof(T) == 4) return bits<u32>(v); else return bits<u64>(v);
}
I f32 ftz(f32 x) { return fabsf(x) < FLT_MIN ? copysignf(0.f, x) : x; }
template <class D, class S> I D sat_i(S x) {                     // float -> integer, PTX saturates, NaN is 0
    if (x != x) return 0;
    if (sizeof(D) == 8 ? (double)x >= (std::is_signed_v<D> ? 0x1p63 : 0x1p64) : (double)x > (double)(D)(std::is_signed_v<D> ? ((u64)1 << (8 * sizeof(D) - 1)) - 1 : ~(u64)0)) return (D)(std::is_signed_v<D> ? ((u64)1 << (8 * sizeof(D) - 1)) - 1 : ~(u64)0);
    if ((double)x < (std::is_signed_v<D> ? -ldexp(1.0, 8 * sizeof(D) - 1) : 0.0)) return (D)(std::is_signed_v<D> ? (u64)1 << (8 * sizeof(D) - 1) : 0);
    return (D)x;
}
template <class T> I T shl_(T a, u32 n) { return n >= 8 * sizeof(T) ? 0 : (T)(a << n); }
template <class T> I T shr_(T a, u32 n) { constexpr u32 w = 8 * sizeof(T); return n >= w ? (T)(std::is_signed_v<T> ? (a >> (w - 1)) : 0) : (T)(a >> n); }
template <class T> I T div_(T a, T b) { return b ? (T)(a / b) : (T)-1; }
template <class T> I T rem_(T a, T b) { return b ? (T)(a % b) : a; }
I f32 min_(f32 a, f32 b) { return fminf(a, b); } I f32 max_(f32 a, f32 b) { return fmaxf(a, b); }
I f64 min_(f64 a, f64 b) { return fmin(a, b); } I f64 max_(f64 a, f64 b) { return fmax(a, b); }
template <class T> I T min_(T a, T b) { return b < a ? b : a; } template <class T> I T max_(T a, T b) { return a < b ? b : a; }
I u32 bfe_(u32 a, u32 p, u32 l) { p &= 255; l &= 255; return l == 0 || p > 31 ? 0 : (a >> p) & (l > 31 ? ~0u : (1u << l) - 1); }
I s32 bfe_(s32 a, u32 p, u32 l) { p &= 255; l &= 255; if (!l) return 0; if (p > 31) return a >> 31; s64 w = (s64)a >> p; if (p + l >= 32) return (s32)w; return (s32)((u32)w << (32 - l)) >> (32 - l); }
I u32 bfi_(u32 a, u32 b, u32 p, u32 l) { p &= 255; l &= 255; u32 m = (l > 31 ? ~0u : (1u << l) - 1); m = p > 31 ? 0 : m << p; return (b & ~m) | (((p > 31 ? 0 : a << p)) & m); }
I u32 prmt_(u32 a, u32 b, u32 s) { u64 v = (u64)b << 32 | a; u32 r = 0; for (int i = 0; i < 4; ++i) { u32 k = s >> 4 * i & 15, x = v >> 8 * (k & 7) & 255; if (k & 8) x = x & 128 ? 255 : 0; r |= x << 8 * i; } return r; }
I u32 shfl_(int mode, u32 v, u32 b, u32 c, u32 mask, bool* p) {   // 0 up 1 down 2 bfly 3 idx
    u32 lane = gpu_lane, bval = b & 31, cval = c & 31, seg = c >> 8 & 31, maxl = (lane & seg) | (cval & ~seg), minl = lane & seg; int j;
    bool ok;
    if (mode == 0) { j = (int)lane - (int)bval; ok = j >= (int)maxl; } else if (mode == 1) { j = lane + bval; ok = j <= (int)maxl; }
    else if (mode == 2) { j = lane ^ bval; ok = j <= (int)maxl; } else { j = minl | (bval & ~seg); ok = j <= (int)maxl; }
    if (p) *p = ok;
    return gpu_exchange(mask, v, ok ? j : (int)lane);
}
extern "C" void gpu_access(const void*, unsigned size, int write, int line);
#ifdef GPU_CHECK
#define ACC(p, n, w, l) gpu_access((const void*)(p), n, w, l)
#else
#define ACC(p, n, w, l) (void)0
#endif
template <class T> I T ld_(u64 a) { T v; memcpy(&v, (const void*)a, sizeof v); return v; }
template <class T> I void st_(u64 a, T v) { memcpy((void*)a, &v, sizeof v); }
template <class T, class F> I T atom_(u64 a, F f) { return gpu_rmw((T*)a, f); }
// mma.sync.m16n8k16 (f16 inputs, f32 accumulators), fragment layout of the PTX ISA
I void mma16816(u32* d, const u32* a, const u32* b, const u32* c) {
    struct F { u32 v; };
    u32 A[4][32], B[2][32]; (void)A; (void)B;
    f32 am[16][16], bm[16][8];
    for (int i = 0; i < 6; ++i) { u32 mine = i < 4 ? a[i] : b[i - 4]; memcpy(gpu_warp_slot(gpu_lane), &mine, 4); gpu_warp_barrier(~0u, -20, 0);
        for (int l = 0; l < 32; ++l) { u32 x; memcpy(&x, gpu_warp_slot(l), 4); f32 lo = bits<f16>((u16)x), hi = bits<f16>((u16)(x >> 16)); int g = l >> 2, t = l & 3;
            if (i < 4) { int r = g + (i & 1) * 8, k = t * 2 + (i >> 1) * 8; am[r][k] = lo; am[r][k + 1] = hi; }
            else { int k = t * 2 + (i - 4) * 8; bm[k][g] = lo; bm[k + 1][g] = hi; } }
        gpu_warp_barrier(~0u, -21, 0); }
    int g = gpu_lane >> 2, t = gpu_lane & 3;
    for (int i = 0; i < 4; ++i) { int r = g + (i >> 1) * 8, n = t * 2 + (i & 1); f32 s = bits<f32>(c[i]); for (int k = 0; k < 16; ++k) s += am[r][k] * bm[k][n]; d[i] = bits<u32>(s); }
}
