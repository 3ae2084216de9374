// ptx.h: what the C++ that ptx.py writes is made of. Registers hold raw bits in unsigned integers of their width; a value
// takes its type when an instruction reads it.
#pragma once
#include "cuda.h"
#include "cuda_fp16.h"
#include "cuda_bf16.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef _Float16 f16;
typedef __nv_bfloat16 bf16;
typedef float f32;
typedef double f64;
template <class T>
struct Pair {
    T low, high;
};
typedef Pair<f16> f16x2;
typedef Pair<bf16> bf16x2;

template <int BYTES> struct UnsignedOf {
    typedef u64 type;
};
template <> struct UnsignedOf<1> {
    typedef u8 type;
};
template <> struct UnsignedOf<2> {
    typedef u16 type;
};
template <> struct UnsignedOf<4> {
    typedef u32 type;
};
template <class T> using Raw = typename UnsignedOf<sizeof(T)>::type;
template <class T> struct Kind {
    static constexpr bool real = false, is_signed = (T)-1 < (T)0;
};
template <> struct Kind<f16> {
    static constexpr bool real = true, is_signed = true;
};
template <> struct Kind<bf16> {
    static constexpr bool real = true, is_signed = true;
};
template <> struct Kind<f32> {
    static constexpr bool real = true, is_signed = true;
};
template <> struct Kind<f64> {
    static constexpr bool real = true, is_signed = true;
};

// ---------------------------------------------------------------- registers and memory

// What stands in most lines of a text is made of operators and builtins: to find and inline a function takes g++ longer
// than all that it does afterwards.
#define FROM(T, bits) __builtin_bit_cast(T, bits)
#define RAW(T, ...) __builtin_bit_cast(Raw<T>, (T)(__VA_ARGS__))
template <class T> GPU_INLINE T load(u64 address)
{
    T value;
    __builtin_memcpy(&value, (const void*)address, sizeof value);
    return value;
}
template <class T> GPU_INLINE void store(u64 address, T value)
{
    __builtin_memcpy((void*)address, &value, sizeof value);
}

#ifdef GPU_CHECK
#define ACCESS(address, size, write, site) gpu_access((const void*)(address), size, write, site)
#define NOTE_ATOMIC(address, size, site) gpu_atomic((const void*)(address), size, site)
#else
#define ACCESS(address, size, write, site) (void)0
#define NOTE_ATOMIC(address, size, site) (void)0
#endif

// ---------------------------------------------------------------- arithmetic

// Denormal numbers become zero; only for texts in which some instructions flush and others do not.
GPU_INLINE f32 flush(f32 x) { return fabsf(x) < __FLT_MIN__ ? copysignf(0.0f, x) : x; }
template <class T> GPU_INLINE T saturate(T x) { return x != x || x<(T)0.0f ? (T)0.0f : x>(T) 1.0f ? (T)1.0f : x; }

#define PTX_BINARY(NAME, OPERATOR)                                               \
    template <class T> GPU_INLINE T NAME(T a, T b) { return (T)(a OPERATOR b); } \
    template <class T> GPU_INLINE Pair<T> NAME(Pair<T> a, Pair<T> b)             \
    {                                                                            \
        return {(T)(a.low OPERATOR b.low), (T)(a.high OPERATOR b.high)};         \
    }
PTX_BINARY(add_, +)
PTX_BINARY(sub_, -)
PTX_BINARY(mul_, *)
GPU_INLINE f16 fma_(f16 a, f16 b, f16 c) { return (f16)((f64)a * (f64)b + (f64)c); }
GPU_INLINE bf16 fma_(bf16 a, bf16 b, bf16 c) { return bf16(__builtin_fmaf(a, b, c)); }
template <class T> GPU_INLINE Pair<T> fma_(Pair<T> a, Pair<T> b, Pair<T> c)
{
    return {fma_(a.low, b.low, c.low), fma_(a.high, b.high, c.high)};
}
template <class T> GPU_INLINE T neg_(T a) { return (T)-a; }
template <class T> GPU_INLINE Pair<T> neg_(Pair<T> a) { return {(T)-a.low, (T)-a.high}; }
template <class T> GPU_INLINE T abs_(T a) { return a < (T)0 ? (T)-a : a; }
template <> GPU_INLINE f64 abs_(f64 a) { return fabs(a); }
template <> GPU_INLINE f16 abs_(f16 a) { return (f16)fabsf(a); }
template <> GPU_INLINE bf16 abs_(bf16 a) { return bf16(fabsf(a)); }
template <class T> GPU_INLINE Pair<T> abs_(Pair<T> a) { return {abs_(a.low), abs_(a.high)}; }

// A float in a given direction from a value that is known more exactly.
GPU_INLINE f32 toward_zero(f64 x)
{
    f32 y = (f32)x;
    return fabs((f64)y) > fabs(x) ? nextafterf(y, 0.0f) : y;
}
GPU_INLINE f32 toward_minus(f64 x)
{
    f32 y = (f32)x;
    return (f64)y > x ? nextafterf(y, -__builtin_inff()) : y;
}
GPU_INLINE f32 toward_plus(f64 x)
{
    f32 y = (f32)x;
    return (f64)y < x ? nextafterf(y, __builtin_inff()) : y;
}

// Integers: a division by zero has all bits set, as on a GPU.
template <class T> GPU_INLINE T div_(T a, T b)
{
    return b == 0 ? (T)-1 : b == (T)-1 && Kind<T>::is_signed ? (T)-a : (T)(a / b);
}
template <> GPU_INLINE f32 div_(f32 a, f32 b) { return a / b; }
template <> GPU_INLINE f64 div_(f64 a, f64 b) { return a / b; }
template <class T> GPU_INLINE T rem_(T a, T b)
{
    return b == 0 ? a : b == (T)-1 && Kind<T>::is_signed ? 0 : (T)(a % b);
}

// min and max drop a NaN, their .NaN variants keep it; -0 is less than +0.
template <class T> GPU_INLINE bool less(T a, T b)
{
    if constexpr (Kind<T>::real)
        return a < b || (a == b && __builtin_signbit((f32)a) && !__builtin_signbit((f32)b));
    else
        return a < b;
}
template <class T> GPU_INLINE T min_(T a, T b) { return a != a ? b : b != b ? a : less(b, a) ? b : a; }
template <class T> GPU_INLINE T max_(T a, T b) { return a != a ? b : b != b ? a : less(a, b) ? b : a; }
template <class T> GPU_INLINE T min_nan(T a, T b) { return a != a ? a : b != b ? b : min_(a, b); }
template <class T> GPU_INLINE T max_nan(T a, T b) { return a != a ? a : b != b ? b : max_(a, b); }
#define PTX_PAIRWISE(NAME)                                           \
    template <class T> GPU_INLINE Pair<T> NAME(Pair<T> a, Pair<T> b) \
    {                                                                \
        return {NAME(a.low, b.low), NAME(a.high, b.high)};           \
    }
PTX_PAIRWISE(min_)
PTX_PAIRWISE(max_)
PTX_PAIRWISE(min_nan)
PTX_PAIRWISE(max_nan)

// The approximations are computed accurately.
template <class T> GPU_INLINE T sqrt_(T x) { return (T)sqrt((f64)x); }
template <> GPU_INLINE f32 sqrt_(f32 x) { return sqrtf(x); }
template <class T> GPU_INLINE T rcp_(T x) { return (T)(1 / (f64)x); }
template <class T> GPU_INLINE T rsqrt_(T x) { return (T)(1 / sqrt((f64)x)); }
template <class T> GPU_INLINE T ex2_(T x) { return (T)exp2f((f32)x); }
template <class T> GPU_INLINE Pair<T> ex2_(Pair<T> x) { return {ex2_(x.low), ex2_(x.high)}; }
template <class T> GPU_INLINE T lg2_(T x) { return (T)log2f((f32)x); }
template <class T> GPU_INLINE T sin_(T x) { return (T)sinf((f32)x); }
template <class T> GPU_INLINE T cos_(T x) { return (T)cosf((f32)x); }
template <class T> GPU_INLINE T tanh_(T x) { return (T)tanhf((f32)x); }
template <class T> GPU_INLINE Pair<T> tanh_(Pair<T> x) { return {tanh_(x.low), tanh_(x.high)}; }
template <class T> GPU_INLINE T copysign_(T sign, T magnitude) { return (T)copysign((f64)magnitude, (f64)sign); }

// ---------------------------------------------------------------- integers and bits

template <class T> struct Wide {
    typedef __int128 type;
};
template <> struct Wide<u64> {
    typedef unsigned __int128 type;
};
template <class T> GPU_INLINE T mul_lo(T a, T b) { return (T)((typename Wide<T>::type)a * b); }
template <class T> GPU_INLINE T mul_hi(T a, T b) { return (T)((typename Wide<T>::type)a * b >> 8 * sizeof(T)); }
template <class T> GPU_INLINE T low24(T a) { return Kind<T>::is_signed ? (T)((T)(a << 8) >> 8) : (T)(a & 0xffffff); }
template <class T> GPU_INLINE T shl_(T a, u32 n) { return n >= 8 * sizeof(T) ? (T)0 : (T)((Raw<T>)a << n); }
template <class T> GPU_INLINE T shr_(T a, u32 n)
{
    const u32 width = 8 * sizeof(T);
    return n < width ? (T)(a >> n) : Kind<T>::is_signed ? (T)(a >> (width - 1)) : (T)0;
}
template <class T> GPU_INLINE T sad_(T a, T b, T c) { return (T)(c + (a < b ? b - a : a - b)); }
template <class T> GPU_INLINE T cnot_(T a) { return a == 0; }
GPU_INLINE u32 clz_(u32 a) { return a ? __builtin_clz(a) : 32; }
GPU_INLINE u32 clz_(u64 a) { return a ? __builtin_clzll(a) : 64; }
GPU_INLINE u32 popc_(u32 a) { return __builtin_popcount(a); }
GPU_INLINE u32 popc_(u64 a) { return __builtin_popcountll(a); }
GPU_INLINE u32 brev_(u32 a) { return __brev(a); }
GPU_INLINE u64 brev_(u64 a) { return __brevll(a); }
// The position of the highest bit that differs from the sign; ~0 if there is none.
template <class T> GPU_INLINE u32 bfind_(T a)
{
    u64 bits = Kind<T>::is_signed && a < (T)0 ? (u64)(Raw<T>)~a : (u64)(Raw<T>)a;
    return bits ? 63 - __builtin_clzll(bits) : ~0u;
}
template <class T> GPU_INLINE T bfe_(T a, u32 position, u32 length)
{
    const int width = 8 * sizeof(T);
    int from = position & 255, count = length & 255;
    T sign =
        Kind<T>::is_signed && count ? (T)(a >> (from + count - 1 < width - 1 ? from + count - 1 : width - 1) & 1) : 0;
    Raw<T> result = sign ? ~(Raw<T>)0 : 0;
    for (int i = 0; i < width && i < count; ++i) {
        Raw<T> bit = from + i < width ? (Raw<T>)a >> (from + i) & 1 : (Raw<T>)sign;
        result = (result & ~((Raw<T>)1 << i)) | bit << i;
    }
    return (T)result;
}
template <class T> GPU_INLINE T bfi_(T a, T b, u32 position, u32 length)
{
    const u32 width = 8 * sizeof(T);
    u32 from = position & 255, count = length & 255;
    T ones = count >= width ? ~(T)0 : ((T)1 << count) - 1, mask = from >= width ? (T)0 : (T)(ones << from);
    return (b & ~mask) | (from >= width ? (T)0 : (T)(a << from) & mask);
}
template <class T> GPU_INLINE T lop3_(T a, T b, T c, u32 table)
{
    T result = 0;
    for (u32 i = 0; i < 8; ++i)
        if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return result;
}
GPU_INLINE u32 shf_l(u32 low, u32 high, u32 n) { return n >= 32 ? low : n ? high << n | low >> (32 - n) : high; }
GPU_INLINE u32 shf_r(u32 low, u32 high, u32 n) { return n >= 32 ? high : n ? low >> n | high << (32 - n) : low; }
GPU_INLINE u32 prmt_(u32 a, u32 b, u32 selector)
{
    u64 bytes = (u64)b << 32 | a;
    u32 result = 0;
    for (int i = 0; i < 4; ++i) {
        u32 pick = selector >> 4 * i & 15, byte = bytes >> 8 * (pick & 7) & 255;
        if (pick & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * i;
    }
    return result;
}
enum { PRMT_F4E, PRMT_B4E, PRMT_RC8, PRMT_ECL, PRMT_ECR, PRMT_RC16 };
GPU_INLINE u32 prmt_mode(int mode, u32 a, u32 b, u32 n)
{
    n &= 3;
    u32 selector = 0;
    for (u32 i = 0; i < 4; ++i) {
        u32 pick = mode == PRMT_F4E   ? n + i
                   : mode == PRMT_B4E ? (n - i) & 7
                   : mode == PRMT_RC8 ? n
                   : mode == PRMT_ECL ? (i > n ? i : n)
                   : mode == PRMT_ECR ? (i < n ? i : n)
                                      : (n & 1) * 2 + (i & 1);
        selector |= pick << 4 * i;
    }
    return prmt_(a, b, selector);
}
// The position of the nth set bit at or after (n > 0) or before `base`.
GPU_INLINE u32 fns_(u32 mask, u32 base, s32 offset)
{
    if (offset == 0) return mask >> base & 1 ? base : ~0u;
    int step = offset > 0 ? 1 : -1, left = offset > 0 ? offset : -offset;
    for (int i = (int)base; i >= 0 && i < 32; i += step)
        if (mask >> i & 1 && --left == 0) return i;
    return ~0u;
}
template <class A, class B> GPU_INLINE u32 dp4a_(u32 a, u32 b, u32 c)
{
    for (int i = 0; i < 4; ++i) c += (u32)((s32)(A)(a >> 8 * i) * (s32)(B)(b >> 8 * i));
    return c;
}
template <class A, class B> GPU_INLINE u32 dp2a_(u32 a, u32 b, u32 c, int half)
{
    for (int i = 0; i < 2; ++i) c += (u32)((s32)(A)(a >> 16 * i) * (s32)(B)(b >> 8 * (i + 2 * half)));
    return c;
}

// ---------------------------------------------------------------- conversions

template <class D, class S> GPU_INLINE D integer_of(S x)
{  // a float that is integral: saturates, NaN is zero
    const D high = Kind<D>::is_signed ? (D)(((u64)1 << (8 * sizeof(D) - 1)) - 1) : (D) ~(u64)0;
    const D low = Kind<D>::is_signed ? (D)((u64)1 << (8 * sizeof(D) - 1)) : (D)0;
    return x != x ? (D)0 : (f64)x >= (f64)high ? high : (f64)x <= (f64)low ? low : (D)x;
}
template <class D, class S> GPU_INLINE D clamped(S x)
{  // integer to integer with .sat
    const __int128 high =
        Kind<D>::is_signed ? ((__int128)1 << (8 * sizeof(D) - 1)) - 1 : ((__int128)1 << 8 * sizeof(D)) - 1;
    const __int128 low = Kind<D>::is_signed ? -((__int128)1 << (8 * sizeof(D) - 1)) : 0;
    __int128 v = (__int128)x;
    return (D)(v > high ? high : v < low ? low : v);
}
template <class D, class S> GPU_INLINE D convert(S x) { return (D)x; }
template <> GPU_INLINE bf16 convert<bf16, f64>(f64 x) { return bf16((f32)x); }
GPU_INLINE u32 tf32_nearest(f32 x)
{
    return x != x ? 0x7fffffff : (RAW(f32, x) + 0x1000) & ~0x1fffu;
}  // ties away from zero

// ---------------------------------------------------------------- lanes of a warp

enum { SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX };
struct Shuffled {
    u32 value;
    bool inside;
};
GPU_INLINE Shuffled shfl_(int mode, u32 value, u32 b, u32 c, u32 mask, const void* site)
{
    int lane = gpu_lane, segment = c >> 8 & 31, clamp = c & 31;
    int last = (lane & segment) | (clamp & ~segment), first = lane & segment, n = b & 31;
    int source = mode == SHFL_UP     ? lane - n
                 : mode == SHFL_DOWN ? lane + n
                 : mode == SHFL_BFLY ? lane ^ n
                                     : first | (n & ~segment);
    bool inside = mode == SHFL_UP ? source >= last : source <= last;
    GpuShuffle<u32> mine{value, value, inside ? source : lane};
    gpu_warp(mask, site, &mine, gpu_do_shuffle<u32>);
    return {mine.result, inside};
}
template <GpuReduction OP> GPU_INLINE GpuVote vote_(u32 mask, u64 word, const void* site)
{
    GpuVote mine{word, 0, 0};
    gpu_warp(mask, site, &mine, gpu_do_vote<OP>);
    return mine;
}

// ---------------------------------------------------------------- matrices

struct tf32 {};
template <class T> struct Element {  // how many lie in a register, and the value of one
    static constexpr int count = 2;
    static GPU_INLINE f32 of(u32 bits, int i) { return (f32)FROM(T, (u16)(bits >> 16 * i)); }
};
template <> struct Element<tf32> {
    static constexpr int count = 1;
    static GPU_INLINE f32 of(u32 bits, int) { return FROM(f32, bits & ~0x1fffu); }  // the GPU ignores the low bits
};

// mma.sync.m16n8kK: registers of the four lanes of a group hold neighbouring elements of a row of A (a column of B).
// Products are exact. Those of one register of each lane are added at a time, and each such sum is rounded toward zero
// (Fasi et al., Numerical behavior of NVIDIA tensor cores, 2021).
struct GpuMatrices {
    u32 a[4], b[2];
    f32 c[4];
};
template <int K, class T> GPU_UNCHECKED void gpu_do_mma(void** lanes, unsigned)
{
    const int per = Element<T>::count, registers = K / (4 * per);
    f32 a[16][K], b[K][8];
    for (int lane = 0; lane < 32; ++lane) {
        auto* mine = (GpuMatrices*)lanes[lane];
        int group = lane / 4, first = lane % 4 * per;
        for (int r = 0; r < registers; ++r)
            for (int i = 0; i < per; ++i) {
                int k = first + r * 4 * per + i;
                a[group][k] = Element<T>::of(mine->a[2 * r], i);
                a[group + 8][k] = Element<T>::of(mine->a[2 * r + 1], i);
                b[k][group] = Element<T>::of(mine->b[r], i);
            }
    }
    for (int lane = 0; lane < 32; ++lane) {
        auto* mine = (GpuMatrices*)lanes[lane];
        for (int i = 0; i < 4; ++i) {
            int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            for (int r = 0; r < registers; ++r) {
                f64 sum = mine->c[i];
                for (int k = r * 4 * per; k < (r + 1) * 4 * per; ++k) sum += (f64)a[row][k] * (f64)b[k][column];
                mine->c[i] = toward_zero(sum);
            }
        }
    }
}
template <int K, class T> GPU_INLINE void mma_(GpuMatrices* mine, const void* site)
{
    gpu_warp(~0u, site, mine, gpu_do_mma<K, T>);
}

// ldmatrix: each of the first 8·N lanes names a row of 8 halves; row r of matrix m goes to lanes 4r … 4r + 3.
struct GpuMatrixRows {
    u64 row;
    u32 registers[4];
};
template <int N, bool TRANSPOSED> GPU_UNCHECKED void gpu_do_ldmatrix(void** lanes, unsigned)
{
    for (int m = 0; m < N; ++m) {
        u16 matrix[8][8];
        for (int r = 0; r < 8; ++r) __builtin_memcpy(matrix[r], (void*)((GpuMatrixRows*)lanes[8 * m + r])->row, 16);
        for (int lane = 0; lane < 32; ++lane) {
            int r = lane / 4, c = lane % 4 * 2;
            u32 low = TRANSPOSED ? matrix[c][r] : matrix[r][c], high = TRANSPOSED ? matrix[c + 1][r] : matrix[r][c + 1];
            ((GpuMatrixRows*)lanes[lane])->registers[m] = low | high << 16;
        }
    }
}
template <int N, bool TRANSPOSED> GPU_INLINE GpuMatrixRows ldmatrix_(u64 row, const void* site)
{
    GpuMatrixRows mine{row, {}};
    if (gpu_lane < 8 * N) ACCESS(row, 16, false, site);
    gpu_warp(~0u, site, &mine, gpu_do_ldmatrix<N, TRANSPOSED>);
    return mine;
}

// ---------------------------------------------------------------- how the runtime calls a kernel

#define PTX_EXPORT(NUMBER, FUNCTION)                                                              \
    extern "C" GPU_PUBLIC int gpu_launch_##NUMBER(GpuLaunch* launch, void** arguments)            \
    {                                                                                             \
        launch->image_begin = __ehdr_start;                                                       \
        launch->image_end = _end;                                                                 \
        return gpu_run(launch, [](void* given) { FUNCTION(nullptr, (void**)given); }, arguments); \
    }
