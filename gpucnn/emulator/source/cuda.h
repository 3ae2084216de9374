// cuda.h - enough of CUDA C++ to compile a kernel source with g++/clang++ (force-included).
// Every CUDA thread is a fiber (or, with -DGPU_THREADS, an OS thread); see runtime.cpp.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#define GPU_ON_CPU 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__            // libstdc++ writes __attribute__((__noinline__))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__
#define __grid_constant__
// One block runs at a time, so shared memory is function-local statics. cpp.py finds them with nm (names
// _ZZ...) and passes their ranges in GpuCfg::buf. (A section attribute will not do: g++ drops it in templates.)
#define __shared__ static
#define GPU_NOCHECK __attribute__((no_sanitize("thread", "undefined")))
#define GPU_FN GPU_NOCHECK inline

#ifdef GPU_THREADS
#define GPU_TLS __thread
#else
#define GPU_TLS
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
#define GPU_VEC(T, N) \
    struct alignas(2 * sizeof(T)) N##2 { T x, y; }; struct N##3 { T x, y, z; }; \
    struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) N##4 { T x, y, z, w; }; \
    GPU_FN N##2 make_##N##2(T a, T b) { return {a, b}; } \
    GPU_FN N##3 make_##N##3(T a, T b, T c) { return {a, b, c}; } \
    GPU_FN N##4 make_##N##4(T a, T b, T c, T d) { return {a, b, c, d}; }
GPU_VEC(float, float) GPU_VEC(double, double) GPU_VEC(int, int) GPU_VEC(short, short) GPU_VEC(unsigned char, uchar)
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
GPU_FN uint2 make_uint2(unsigned a, unsigned b) { return {a, b}; }
GPU_FN uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }

// ---- runtime interface (runtime.cpp) -------------------------------------------------------
struct GpuBuf { void* ptr; size_t bytes; unsigned granule; unsigned flags; unsigned char* defined; };   // flags: 1 contents defined, 2 __shared__, 4 ptr is an offset into shared memory; defined: one byte per granule, kept from launch to launch, or null
struct GpuCfg {
    unsigned grid[3], block[3];
    size_t smem;
    unsigned long long seed;      // 0 forward, 1 reverse, else random order of blocks and threads
    int check;                    // 1: race/bounds/init checks (needs -fsanitize=thread objects)
    int nbuf;
    const GpuBuf* buf;
    char* msg; size_t msglen;     // error text out
    size_t dyn_off;               // dynamic shared memory starts here (PTX: static arrays lie below)
    unsigned long long stats[8];  // out: switches, loads, stores, barriers, sectors, ideal sectors, smem wavefronts, smem requests
};
extern "C" {
int gpu_run(const GpuCfg*, void (*body)(void*), void* arg);
void gpu_barrier(int line);
int gpu_barrier_red(int line, int op, int v);
void gpu_warp_barrier(unsigned mask, int line, int orders_memory);
void* gpu_dyn_smem();
unsigned gpu_dyn_bytes();
void* gpu_warp_slot(int lane);
unsigned gpu_warp_present();              // lanes that exist and have not exited
void gpu_note_atomic(const void*, int size);
[[noreturn]] void gpu_fail(const char* fmt, ...);
extern GPU_TLS uint3 threadIdx, blockIdx;
extern uint3 gpu_bdim, gpu_gdim;
extern GPU_TLS int gpu_lane;
}
#define blockDim gpu_bdim
#define gridDim gpu_gdim
#define warpSize 32
#define __syncthreads() gpu_barrier(__LINE__)
#define __syncthreads_count(p) gpu_barrier_red(__LINE__, 0, (p) != 0)
#define __syncthreads_and(p) gpu_barrier_red(__LINE__, 1, (p) != 0)
#define __syncthreads_or(p) gpu_barrier_red(__LINE__, 2, (p) != 0)
GPU_FN void __syncwarp(unsigned m = 0xffffffffu) { gpu_warp_barrier(m, 0, 1); }
GPU_FN void __threadfence() {}
GPU_FN void __threadfence_block() {}

// ---- warp exchange ----------------------------------------------------------------------------
template <class T> GPU_FN T gpu_exchange(unsigned mask, T v, int src) {
    static_assert(sizeof(T) <= 16 && std::is_trivially_copyable_v<T>);
    memcpy(gpu_warp_slot(gpu_lane), &v, sizeof v);
    unsigned here = gpu_warp_present();
    gpu_warp_barrier(mask, -1, 0);
    T r;
    if (src < 0 || src > 31 || !((mask & here) >> src & 1)) memset(&r, 0xff, sizeof r);   // undefined on a GPU
    else memcpy(&r, gpu_warp_slot(src), sizeof r);
    gpu_warp_barrier(mask, -2, 0);
    return r;
}
template <class T> GPU_FN T __shfl_sync(unsigned m, T v, int src, int w = 32) { return gpu_exchange(m, v, (gpu_lane & ~(w - 1)) | (src & (w - 1))); }
template <class T> GPU_FN T __shfl_xor_sync(unsigned m, T v, int x, int w = 32) { int s = gpu_lane ^ x; return gpu_exchange(m, v, (s & ~(w - 1)) > (gpu_lane & ~(w - 1)) ? gpu_lane : s); }
template <class T> GPU_FN T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32) { return gpu_exchange(m, v, (gpu_lane & (w - 1)) + (int)d < w ? gpu_lane + (int)d : gpu_lane); }
template <class T> GPU_FN T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) { return gpu_exchange(m, v, (gpu_lane & (w - 1)) >= (int)d ? gpu_lane - (int)d : gpu_lane); }
GPU_FN unsigned __ballot_sync(unsigned m, int p) {
    *(unsigned*)gpu_warp_slot(gpu_lane) = p != 0;
    unsigned here = gpu_warp_present() & m, r = 0;
    gpu_warp_barrier(m, -3, 0);
    for (int l = 0; l < 32; ++l) if (here >> l & 1) r |= *(unsigned*)gpu_warp_slot(l) << l;
    gpu_warp_barrier(m, -4, 0);
    return r;
}
GPU_FN int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
GPU_FN int __all_sync(unsigned m, int p) { unsigned h = gpu_warp_present() & m; return __ballot_sync(m, p) == h; }
GPU_FN unsigned __activemask() { return gpu_warp_present(); }

// ---- atomics (fibers: plain; OS threads: real) ---------------------------------------------------
template <class T, class F> GPU_FN T gpu_rmw(T* p, F f) {
    gpu_note_atomic(p, sizeof(T));
#ifdef GPU_THREADS
    T o, n; __atomic_load(p, &o, __ATOMIC_RELAXED);
    do { n = f(o); } while (!__atomic_compare_exchange(p, &o, &n, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return o;
#else
    T o = *p; *p = f(o); return o;
#endif
}
#define GPU_ATOMIC(NAME, EXPR) template <class T> GPU_FN T NAME(T* p, std::type_identity_t<T> v) { return gpu_rmw(p, [=](T o) GPU_NOCHECK -> T { return EXPR; }); }
GPU_ATOMIC(atomicAdd, o + v) GPU_ATOMIC(atomicSub, o - v) GPU_ATOMIC(atomicExch, v) GPU_ATOMIC(atomicMax, o > v ? o : v)
GPU_ATOMIC(atomicMin, o < v ? o : v) GPU_ATOMIC(atomicAnd, o & v) GPU_ATOMIC(atomicOr, o | v) GPU_ATOMIC(atomicXor, o ^ v)
template <class T> GPU_FN T atomicCAS(T* p, std::type_identity_t<T> c, std::type_identity_t<T> v) { return gpu_rmw(p, [=](T o) GPU_NOCHECK -> T { return o == c ? v : o; }); }

// ---- math and integer intrinsics ------------------------------------------------------------------
template <class T> __forceinline__ T __ldg(const T* p) { return *p; }
GPU_FN float __expf(float x) { return expf(x); }   GPU_FN float __logf(float x) { return logf(x); }
GPU_FN float __fdividef(float a, float b) { return a / b; }
GPU_FN float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
GPU_FN float rsqrtf(float x) { return 1.0f / sqrtf(x); }  GPU_FN float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
GPU_FN float __frcp_rn(float x) { return 1.0f / x; }      GPU_FN float __fsqrt_rn(float x) { return sqrtf(x); }
GPU_FN float __fadd_rn(float a, float b) { return a + b; } GPU_FN float __fmul_rn(float a, float b) { return a * b; }
GPU_FN int min(int a, int b) { return a < b ? a : b; }  GPU_FN int max(int a, int b) { return a > b ? a : b; }
GPU_FN unsigned min(unsigned a, unsigned b) { return a < b ? a : b; } GPU_FN unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
GPU_FN long long min(long long a, long long b) { return a < b ? a : b; } GPU_FN long long max(long long a, long long b) { return a > b ? a : b; }
GPU_FN float min(float a, float b) { return fminf(a, b); } GPU_FN float max(float a, float b) { return fmaxf(a, b); }
GPU_FN double min(double a, double b) { return fmin(a, b); } GPU_FN double max(double a, double b) { return fmax(a, b); }
GPU_FN int __popc(unsigned x) { return __builtin_popcount(x); } GPU_FN int __clz(int x) { return x ? __builtin_clz(x) : 32; }
GPU_FN int __ffs(int x) { return __builtin_ffs(x); }
GPU_FN unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
GPU_FN int __float_as_int(float x) { int r; memcpy(&r, &x, 4); return r; } GPU_FN float __int_as_float(int x) { float r; memcpy(&r, &x, 4); return r; }
GPU_FN unsigned __float_as_uint(float x) { unsigned r; memcpy(&r, &x, 4); return r; } GPU_FN float __uint_as_float(unsigned x) { float r; memcpy(&r, &x, 4); return r; }

// ---- half (needs _Float16: g++ >= 12 on x86, any on aarch64; clang >= 15) -----------------------------
typedef _Float16 __half; typedef _Float16 half;
struct alignas(4) __half2 { __half x, y; }; typedef __half2 half2;
GPU_FN float __half2float(__half h) { return (float)h; } GPU_FN __half __float2half(float f) { return (__half)f; }
GPU_FN __half __float2half_rn(float f) { return (__half)f; }
GPU_FN float2 __half22float2(__half2 h) { return {(float)h.x, (float)h.y}; }
GPU_FN __half2 __floats2half2_rn(float a, float b) { return {(__half)a, (__half)b}; }
GPU_FN __half2 __float22half2_rn(float2 f) { return {(__half)f.x, (__half)f.y}; }
GPU_FN __half __hfma(__half a, __half b, __half c) { return (__half)((float)a * (float)b + (float)c); }

// ---- launch: unpack void** exactly as cuLaunchKernel does -----------------------------------------------
template <class... A> struct GpuCall { void (*f)(A...); void** a; };
template <class... A> GPU_NOCHECK void gpu_body(void* p) {
    auto* c = (GpuCall<A...>*)p;
    [&]<size_t... I>(std::index_sequence<I...>) GPU_NOCHECK { c->f(*(std::remove_reference_t<A>*)c->a[I]...); }(std::index_sequence_for<A...>{});
}
template <class... A> GPU_NOCHECK int gpu_launch(void (*f)(A...), const GpuCfg* cfg, void** args) {
    GpuCall<A...> c{f, args};
    return gpu_run(cfg, gpu_body<A...>, &c);
}
// argument types as numpy codes: "f4", "i4", "f2", ...; "P" before a pointer's; "V<size>" for any other struct
template <class T> const char* gpu_code() {
    if constexpr (std::is_pointer_v<T>) {
        using U = std::remove_cv_t<std::remove_pointer_t<T>>;
        if constexpr (std::is_void_v<U>) return "P"; else { static char b[8]; b[0] = 'P'; strcpy(b + 1, gpu_code<U>()); return b; }
    } else {
        static char b[8];
        b[0] = std::is_same_v<T, bool> ? 'b' : std::is_same_v<T, __half> || std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? (std::is_signed_v<T> ? 'i' : 'u') : 'V';
        b[1] = '0' + sizeof(T) % 10; return b;
    }
}
template <class... A> const char* gpu_sig(void (*)(A...), unsigned i) {
    const char* n[] = {gpu_code<std::remove_cv_t<A>>()..., nullptr};
    return i < sizeof...(A) ? n[i] : nullptr;
}
#define GPU_EXPORT(ID, ...) \
    extern "C" __attribute__((visibility("default"))) int gpu_launch_##ID(const GpuCfg* c, void** a) { return gpu_launch(&__VA_ARGS__, c, a); } \
    extern "C" __attribute__((visibility("default"))) const char* gpu_sig_##ID(unsigned i) { return gpu_sig(&__VA_ARGS__, i); }
