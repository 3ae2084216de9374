// cuda.h: the CUDA C++ that kernels are written in, for the host's C++ compiler. It is included in front of a kernel's
// text, needs no CUDA and no header of the C++ library (which would take most of the time of compiling a kernel). What
// NVRTC does not know without headers (INFINITY, FLT_MAX, uint32_t, …) is missing here as well.
#pragma once
#include "runtime.h"

// A place in the source: a string that launching.py finds by its first characters.
#define GPU_TEXT_OF(x) #x
#define GPU_TEXT(x) GPU_TEXT_OF(x)
#define GPU_HERE ("@gpu:" __FILE__ ":" GPU_TEXT(__LINE__))

// ---------------------------------------------------------------- qualifiers

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __noinline__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
// Blocks run one after the other: a static variable of a function is shared by the threads of one block at a time.
// cpp.py finds the arrays in the library's symbols and reports them to the runtime, which forgets their contents in
// each block.
#define __shared__ static

#define GPU_INLINE inline __attribute__((always_inline))

// ---------------------------------------------------------------- vectors

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define GPU_VECTORS(T, NAME, ALIGN2, ALIGN4)                       \
    struct NAME##1 { T x; };                                       \
    struct alignas(ALIGN2) NAME##2 { T x, y; };                    \
    struct alignas(ALIGN4) NAME##4 { T x, y, z, w; };              \
    GPU_INLINE NAME##1 make_##NAME##1(T x) { return {x}; }         \
    GPU_INLINE NAME##2 make_##NAME##2(T x, T y) { return {x, y}; } \
    GPU_INLINE NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define GPU_VECTOR3(T, NAME)       \
    struct NAME##3 { T x, y, z; }; \
    GPU_INLINE NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }
GPU_VECTORS(signed char, char, 2, 4)
GPU_VECTORS(unsigned char, uchar, 2, 4)
GPU_VECTORS(short, short, 4, 8)
GPU_VECTORS(unsigned short, ushort, 4, 8)
GPU_VECTORS(int, int, 8, 16)
GPU_VECTORS(unsigned, uint, 8, 16)
GPU_VECTORS(float, float, 8, 16)
GPU_VECTORS(long long, longlong, 16, 16)
GPU_VECTORS(unsigned long long, ulonglong, 16, 16)
GPU_VECTORS(double, double, 16, 16)
GPU_VECTOR3(signed char, char)
GPU_VECTOR3(unsigned char, uchar)
GPU_VECTOR3(short, short)
GPU_VECTOR3(unsigned short, ushort)
GPU_VECTOR3(int, int)
GPU_VECTOR3(float, float)
GPU_VECTOR3(double, double)
GPU_INLINE uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

// ---------------------------------------------------------------- threads that meet

#define warpSize 32
#define __syncthreads() gpu_barrier(GPU_HERE)
#define __syncthreads_count(predicate) gpu_barrier_count(GPU_HERE, (predicate) != 0)
#define __syncthreads_or(predicate) (gpu_barrier_count(GPU_HERE, (predicate) != 0) != 0)
#define __syncthreads_and(predicate) (gpu_barrier_count(GPU_HERE, (predicate) == 0) == 0)
GPU_INLINE void __syncwarp(unsigned mask = ~0u) { gpu_warp_sync(mask, nullptr); }
#ifdef GPU_CHECK
GPU_INLINE void __threadfence() { gpu_fence(); }
#else
GPU_INLINE void __threadfence() {}
#endif
GPU_INLINE void __threadfence_block() {}
GPU_INLINE void __threadfence_system() { __threadfence(); }
GPU_INLINE unsigned __activemask() { return gpu_warp_present(); }

template <class T>
struct GpuShuffle {
    T value, result;
    int source;
};
// Each lane gets the value of its source; from a lane that is not there it gets a NaN, as nothing is defined then.
template <class T>
GPU_UNCHECKED void gpu_do_shuffle(void** lanes, unsigned group)
{
    for (int lane = 0; lane < 32; ++lane) {
        if (!(group >> lane & 1)) continue;
        auto* mine = (GpuShuffle<T>*)lanes[lane];
        bool there = mine->source >= 0 && mine->source < 32 && group >> mine->source & 1;
        if (there)
            mine->result = ((GpuShuffle<T>*)lanes[mine->source])->value;
        else
            __builtin_memset(&mine->result, 0xff, sizeof(T));
    }
}
template <class T>
GPU_INLINE T gpu_shuffle(unsigned mask, T value, int source)
{
    GpuShuffle<T> mine{value, value, source};
    gpu_warp(mask, nullptr, &mine, gpu_do_shuffle<T>);
    return mine.result;
}
template <class T>
GPU_INLINE T __shfl_sync(unsigned mask, T value, int source, int width = 32)
{
    return gpu_shuffle(mask, value, (gpu_lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
GPU_INLINE T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32)
{
    int source = gpu_lane ^ bits;
    return gpu_shuffle(mask, value, source > (gpu_lane | (width - 1)) ? gpu_lane : source);
}
template <class T>
GPU_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    int in_segment = gpu_lane & (width - 1);
    return gpu_shuffle(mask, value, in_segment + (int)delta < width ? gpu_lane + (int)delta : gpu_lane);
}
template <class T>
GPU_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    int in_segment = gpu_lane & (width - 1);
    return gpu_shuffle(mask, value, in_segment >= (int)delta ? gpu_lane - (int)delta : gpu_lane);
}

// What the lanes of the group say together, computed from one word of each.
struct GpuVote {
    unsigned long long word;
    unsigned group, result;
};
enum GpuReduction { GPU_BALLOT, GPU_ADD, GPU_MIN, GPU_MAX, GPU_SMIN, GPU_SMAX, GPU_AND, GPU_OR, GPU_XOR, GPU_MATCH };
template <GpuReduction OP>
GPU_UNCHECKED void gpu_do_vote(void** lanes, unsigned group)
{
    for (int lane = 0; lane < 32; ++lane) {
        if (!(group >> lane & 1)) continue;
        auto* mine = (GpuVote*)lanes[lane];
        unsigned result = OP == GPU_BALLOT || OP == GPU_MATCH ? 0 : (unsigned)mine->word;
        for (int other = 0; other < 32; ++other) {
            if (!(group >> other & 1)) continue;
            unsigned long long wide = ((GpuVote*)lanes[other])->word;
            unsigned word = (unsigned)wide;
            if (OP == GPU_BALLOT) result |= (word != 0) << other;
            if (OP == GPU_MATCH) result |= (unsigned)(wide == mine->word) << other;
            if (OP == GPU_ADD && other != lane) result += word;
            if (OP == GPU_MIN && word < result) result = word;
            if (OP == GPU_MAX && word > result) result = word;
            if (OP == GPU_SMIN && (int)word < (int)result) result = word;
            if (OP == GPU_SMAX && (int)word > (int)result) result = word;
            if (OP == GPU_AND) result &= word;
            if (OP == GPU_OR) result |= word;
            if (OP == GPU_XOR && other != lane) result ^= word;
        }
        mine->result = result;
        mine->group = group;
    }
}
template <GpuReduction OP>
GPU_INLINE GpuVote gpu_vote(unsigned mask, unsigned long long word)
{
    GpuVote mine{word, 0, 0};
    gpu_warp(mask, nullptr, &mine, gpu_do_vote<OP>);
    return mine;
}
GPU_INLINE unsigned __ballot_sync(unsigned mask, int predicate)
{
    return gpu_vote<GPU_BALLOT>(mask, predicate != 0).result;
}
GPU_INLINE int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
GPU_INLINE int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
GPU_INLINE unsigned __reduce_add_sync(unsigned mask, unsigned v) { return gpu_vote<GPU_ADD>(mask, v).result; }
GPU_INLINE int __reduce_add_sync(unsigned mask, int v) { return gpu_vote<GPU_ADD>(mask, (unsigned)v).result; }
GPU_INLINE unsigned __reduce_min_sync(unsigned mask, unsigned v) { return gpu_vote<GPU_MIN>(mask, v).result; }
GPU_INLINE int __reduce_min_sync(unsigned mask, int v) { return gpu_vote<GPU_SMIN>(mask, (unsigned)v).result; }
GPU_INLINE unsigned __reduce_max_sync(unsigned mask, unsigned v) { return gpu_vote<GPU_MAX>(mask, v).result; }
GPU_INLINE int __reduce_max_sync(unsigned mask, int v) { return gpu_vote<GPU_SMAX>(mask, (unsigned)v).result; }
GPU_INLINE unsigned __reduce_and_sync(unsigned mask, unsigned v) { return gpu_vote<GPU_AND>(mask, v).result; }
GPU_INLINE unsigned __reduce_or_sync(unsigned mask, unsigned v) { return gpu_vote<GPU_OR>(mask, v).result; }
GPU_INLINE unsigned __reduce_xor_sync(unsigned mask, unsigned v) { return gpu_vote<GPU_XOR>(mask, v).result; }
template <class T>
GPU_INLINE unsigned __match_any_sync(unsigned mask, T value)
{
    unsigned long long word = 0;
    __builtin_memcpy(&word, &value, sizeof value);
    return gpu_vote<GPU_MATCH>(mask, word).result;
}
template <class T>
GPU_INLINE unsigned __match_all_sync(unsigned mask, T value, int* all)
{
    unsigned long long word = 0;
    __builtin_memcpy(&word, &value, sizeof value);
    GpuVote vote = gpu_vote<GPU_MATCH>(mask, word);
    *all = vote.result == vote.group;
    return *all ? vote.group : 0;
}

// ---------------------------------------------------------------- atomics and accesses with a hint

template <class T>
struct GpuPlain {
    typedef T type;
};
template <class T>
using GpuValue = typename GpuPlain<T>::type;  // takes no part in deducing T

// Not inlined, so that the address to which it returns is the kernel's; fibers cannot be interrupted here.
#ifdef GPU_CHECK
#define GPU_ATOMIC_FUNCTION GPU_UNCHECKED __attribute__((noinline))
#define GPU_NOTE_ATOMIC(p) gpu_atomic(p, sizeof *p, __builtin_return_address(0))
#else
#define GPU_ATOMIC_FUNCTION GPU_INLINE
#define GPU_NOTE_ATOMIC(p) (void)0
#endif
#define GPU_ATOMIC(NAME, EXPRESSION)                \
    template <class T>                              \
    GPU_ATOMIC_FUNCTION T NAME(T* p, GpuValue<T> v) \
    {                                               \
        GPU_NOTE_ATOMIC(p);                         \
        T old = *p;                                 \
        *p = EXPRESSION;                            \
        return old;                                 \
    }
// clang-format off: the arguments are expressions
GPU_ATOMIC(atomicAdd, old + v)
GPU_ATOMIC(atomicSub, old - v)
GPU_ATOMIC(atomicExch, v)
GPU_ATOMIC(atomicMin, v < old ? v : old)
GPU_ATOMIC(atomicMax, v > old ? v : old)
GPU_ATOMIC(atomicAnd, old & v)
GPU_ATOMIC(atomicOr, old | v)
GPU_ATOMIC(atomicXor, old ^ v)
GPU_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
GPU_ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1)
// clang-format on
template <class T>
GPU_ATOMIC_FUNCTION T atomicCAS(T* p, GpuValue<T> expected, GpuValue<T> v)
{
    GPU_NOTE_ATOMIC(p);
    T old = *p;
    if (old == expected) *p = v;
    return old;
}

#define GPU_LOAD(NAME)            \
    template <class T>            \
    GPU_INLINE T NAME(const T* p) \
    {                             \
        return *p;                \
    }
#define GPU_STORE(NAME)                       \
    template <class T>                        \
    GPU_INLINE void NAME(T* p, GpuValue<T> v) \
    {                                         \
        *p = v;                               \
    }
GPU_LOAD(__ldg)
GPU_LOAD(__ldca)
GPU_LOAD(__ldcg)
GPU_LOAD(__ldcs)
GPU_LOAD(__ldcv)
GPU_LOAD(__ldlu)
GPU_STORE(__stcg)
GPU_STORE(__stcs)
GPU_STORE(__stwb)
GPU_STORE(__stwt)

#define assert(condition) ((condition) ? (void)0 : gpu_stop(GPU_ASSERTION, GPU_HERE, #condition))
#define __trap() gpu_stop(GPU_TRAP, GPU_HERE, nullptr)
extern "C" int printf(const char*, ...);
GPU_INLINE long long clock64() { return 0; }
GPU_INLINE int clock() { return 0; }
GPU_INLINE void __nanosleep(unsigned) {}

// ---------------------------------------------------------------- mathematics

#define GPU_MATH1(NAME)                       \
    extern "C" float NAME##f(float) noexcept; \
    extern "C" double NAME(double) noexcept;  \
    GPU_INLINE float NAME(float x) { return NAME##f(x); }
#define GPU_MATH2(NAME)                              \
    extern "C" float NAME##f(float, float) noexcept; \
    extern "C" double NAME(double, double) noexcept; \
    GPU_INLINE float NAME(float x, float y) { return NAME##f(x, y); }
GPU_MATH1(sqrt)
GPU_MATH1(cbrt)
GPU_MATH1(exp)
GPU_MATH1(exp2)
GPU_MATH1(exp10)
GPU_MATH1(expm1)
GPU_MATH1(log)
GPU_MATH1(log2)
GPU_MATH1(log10)
GPU_MATH1(log1p)
GPU_MATH1(sin)
GPU_MATH1(cos)
GPU_MATH1(tan)
GPU_MATH1(asin)
GPU_MATH1(acos)
GPU_MATH1(atan)
GPU_MATH1(sinh)
GPU_MATH1(cosh)
GPU_MATH1(tanh)
GPU_MATH1(asinh)
GPU_MATH1(acosh)
GPU_MATH1(atanh)
GPU_MATH1(erf)
GPU_MATH1(erfc)
GPU_MATH1(tgamma)
GPU_MATH1(lgamma)
GPU_MATH1(fabs)
GPU_MATH1(floor)
GPU_MATH1(ceil)
GPU_MATH1(trunc)
GPU_MATH1(round)
GPU_MATH1(rint)
GPU_MATH1(nearbyint)
GPU_MATH2(pow)
GPU_MATH2(fmod)
GPU_MATH2(atan2)
GPU_MATH2(hypot)
GPU_MATH2(fdim)
GPU_MATH2(copysign)
GPU_MATH2(remainder)
GPU_MATH2(nextafter)
GPU_MATH2(fmin)
GPU_MATH2(fmax)
extern "C" {
float fmaf(float, float, float) noexcept;
double fma(double, double, double) noexcept;
float ldexpf(float, int) noexcept;
float scalbnf(float, int) noexcept;
float frexpf(float, int*) noexcept;
float modff(float, float*) noexcept;
void sincosf(float, float*, float*) noexcept;
long int lrintf(float) noexcept;
long int lroundf(float) noexcept;
int abs(int) noexcept;
}
GPU_INLINE float fma(float a, float b, float c) { return fmaf(a, b, c); }
GPU_INLINE float ldexp(float x, int e) { return ldexpf(x, e); }
GPU_INLINE float abs(float x) { return fabsf(x); }
GPU_INLINE double abs(double x) { return fabs(x); }
GPU_INLINE long long abs(long long x) { return x < 0 ? -x : x; }
GPU_INLINE long long llabs(long long x) { return x < 0 ? -x : x; }
GPU_INLINE bool isnan(float x) { return __builtin_isnan(x); }
GPU_INLINE bool isnan(double x) { return __builtin_isnan(x); }
GPU_INLINE bool isinf(float x) { return __builtin_isinf(x); }
GPU_INLINE bool isinf(double x) { return __builtin_isinf(x); }
GPU_INLINE bool isfinite(float x) { return __builtin_isfinite(x); }
GPU_INLINE bool isfinite(double x) { return __builtin_isfinite(x); }
GPU_INLINE bool signbit(float x) { return __builtin_signbit(x); }
GPU_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
GPU_INLINE float rsqrt(float x) { return rsqrtf(x); }
GPU_INLINE float rcbrtf(float x) { return 1.0f / cbrtf(x); }
GPU_INLINE float sinpif(float x) { return (float)sin(3.14159265358979323846 * fmod((double)x, 2.0)); }
GPU_INLINE float cospif(float x) { return (float)cos(3.14159265358979323846 * fmod((double)x, 2.0)); }
GPU_INLINE void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
GPU_INLINE float normcdff(float x) { return 0.5f * erfcf(-0.70710678f * x); }
GPU_INLINE float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }

// The fast intrinsics are computed accurately: a kernel must bear their error on a GPU, and no test here relies on it.
GPU_INLINE float __expf(float x) { return expf(x); }
GPU_INLINE float __exp10f(float x) { return exp10f(x); }
GPU_INLINE float __logf(float x) { return logf(x); }
GPU_INLINE float __log2f(float x) { return log2f(x); }
GPU_INLINE float __log10f(float x) { return log10f(x); }
GPU_INLINE float __powf(float x, float y) { return powf(x, y); }
GPU_INLINE float __sinf(float x) { return sinf(x); }
GPU_INLINE float __cosf(float x) { return cosf(x); }
GPU_INLINE float __tanf(float x) { return tanf(x); }
GPU_INLINE float __tanhf(float x) { return tanhf(x); }
GPU_INLINE void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
GPU_INLINE float __fdividef(float x, float y) { return x / y; }

// One rounding each: the compiler must not contract a product and a sum into one operation.
GPU_INLINE float gpu_rounded(float x)
{
#if defined(__x86_64__)
    asm("" : "+x"(x));
#else
    asm("" : "+w"(x));
#endif
    return x;
}
GPU_INLINE float __fadd_rn(float x, float y) { return gpu_rounded(x + y); }
GPU_INLINE float __fsub_rn(float x, float y) { return gpu_rounded(x - y); }
GPU_INLINE float __fmul_rn(float x, float y) { return gpu_rounded(x * y); }
GPU_INLINE float __fdiv_rn(float x, float y) { return gpu_rounded(x / y); }
GPU_INLINE float __frcp_rn(float x) { return gpu_rounded(1.0f / x); }
GPU_INLINE float __fsqrt_rn(float x) { return gpu_rounded(sqrtf(x)); }
GPU_INLINE float __frsqrt_rn(float x) { return (float)(1.0 / sqrt((double)x)); }
GPU_INLINE float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }

// min and max of floats give the number where the other one is a NaN.
#define GPU_MINMAX(A, B, R)                                          \
    GPU_INLINE R min(A a, B b) { return (R)b < (R)a ? (R)b : (R)a; } \
    GPU_INLINE R max(A a, B b) { return (R)a < (R)b ? (R)b : (R)a; }
GPU_MINMAX(int, int, int)
GPU_MINMAX(unsigned, unsigned, unsigned)
GPU_MINMAX(int, unsigned, unsigned)
GPU_MINMAX(unsigned, int, unsigned)
GPU_MINMAX(long, long, long)
GPU_MINMAX(unsigned long, unsigned long, unsigned long)
GPU_MINMAX(long long, long long, long long)
GPU_MINMAX(unsigned long long, unsigned long long, unsigned long long)
GPU_MINMAX(long long, unsigned long long, unsigned long long)
GPU_MINMAX(unsigned long long, long long, unsigned long long)
GPU_INLINE float min(float a, float b) { return fminf(a, b); }
GPU_INLINE float max(float a, float b) { return fmaxf(a, b); }
GPU_INLINE double min(double a, double b) { return fmin(a, b); }
GPU_INLINE double max(double a, double b) { return fmax(a, b); }
GPU_INLINE double min(float a, double b) { return fmin((double)a, b); }
GPU_INLINE double max(float a, double b) { return fmax((double)a, b); }
GPU_INLINE double min(double a, float b) { return fmin(a, (double)b); }
GPU_INLINE double max(double a, float b) { return fmax(a, (double)b); }

// ---------------------------------------------------------------- integers and bits

GPU_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
GPU_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
GPU_INLINE int __clz(int x) { return x ? __builtin_clz(x) : 32; }
GPU_INLINE int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
GPU_INLINE int __ffs(int x) { return __builtin_ffs(x); }
GPU_INLINE int __ffsll(long long x) { return __builtin_ffsll(x); }
GPU_INLINE unsigned __brev(unsigned x)
{
    unsigned reversed = 0;
    for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
    return reversed;
}
GPU_INLINE unsigned long long __brevll(unsigned long long x)
{
    return (unsigned long long)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
GPU_INLINE unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
GPU_INLINE int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
GPU_INLINE unsigned long long __umul64hi(unsigned long long x, unsigned long long y)
{
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
GPU_INLINE long long __mul64hi(long long x, long long y) { return (long long)((__int128)x * y >> 64); }
GPU_INLINE int __mul24(int x, int y) { return (x << 8 >> 8) * (y << 8 >> 8); }
GPU_INLINE unsigned __umul24(unsigned x, unsigned y) { return (x & 0xffffff) * (y & 0xffffff); }
GPU_INLINE unsigned __sad(int x, int y, unsigned z) { return z + (unsigned)(x < y ? y - x : x - y); }
GPU_INLINE unsigned __usad(unsigned x, unsigned y, unsigned z) { return z + (x < y ? y - x : x - y); }
GPU_INLINE int __hadd(int x, int y) { return (int)(((long long)x + y) >> 1); }
GPU_INLINE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n)
{
    return (unsigned)(((unsigned long long)high << 32 | low) << (n & 31) >> 32);
}
GPU_INLINE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n)
{
    return (unsigned)(((unsigned long long)high << 32 | low) >> (n & 31));
}
GPU_INLINE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    unsigned long long bytes = (unsigned long long)y << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return result;
}
GPU_INLINE int __dp4a(int x, int y, int sum)
{
    for (int i = 0; i < 4; ++i) sum += (signed char)(x >> 8 * i) * (signed char)(y >> 8 * i);
    return sum;
}
GPU_INLINE unsigned __dp4a(unsigned x, unsigned y, unsigned sum)
{
    for (int i = 0; i < 4; ++i) sum += (x >> 8 * i & 255) * (y >> 8 * i & 255);
    return sum;
}
GPU_INLINE int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
GPU_INLINE float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
GPU_INLINE unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
GPU_INLINE float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
GPU_INLINE long long __double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }
GPU_INLINE double __longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }

// Float to integer: out of range is the nearest integer and NaN is zero on a GPU.
template <class I>
GPU_INLINE I gpu_to_integer(double x, I low, I high)
{
    return x != x ? 0 : x <= (double)low ? low : x >= (double)high ? high : (I)x;
}
#define GPU_CONVERT(MODE, ROUND)                                                     \
    GPU_INLINE int __float2int_##MODE(float x)                                       \
    {                                                                                \
        return gpu_to_integer<int>(ROUND((double)x), -__INT_MAX__ - 1, __INT_MAX__); \
    }                                                                                \
    GPU_INLINE unsigned __float2uint_##MODE(float x) { return gpu_to_integer<unsigned>(ROUND((double)x), 0, ~0u); }
GPU_CONVERT(rn, rint)
GPU_CONVERT(rz, trunc)
GPU_CONVERT(rd, floor)
GPU_CONVERT(ru, ceil)
GPU_INLINE float __int2float_rn(int x) { return (float)x; }
GPU_INLINE float __uint2float_rn(unsigned x) { return (float)x; }

// ---------------------------------------------------------------- how the runtime calls a kernel

template <class... A>
struct GpuCall {
    void (*kernel)(A...);
    void** arguments;
};
template <class... A>
struct GpuInvoke {
    GPU_UNCHECKED GpuInvoke(void (*kernel)(A...), A... arguments) { kernel(arguments...); }
};
template <class... A>
GPU_UNCHECKED void gpu_thread(void* p)
{
    auto* call = (GpuCall<A...>*)p;
    void** next = call->arguments;
    GpuInvoke<A...>{call->kernel, *(A*)*next++...};  // braces: from left to right
}
template <class... A>
GPU_UNCHECKED int gpu_launch(void (*kernel)(A...), GpuLaunch* launch, void** arguments)
{
    GpuCall<A...> call{kernel, arguments};
    return gpu_run(launch, gpu_thread<A...>, &call);
}

extern "C" GPU_HIDDEN const char __ehdr_start[], _end[];
#define GPU_EXPORT(NUMBER, ...)                                                        \
    extern "C" GPU_PUBLIC int gpu_launch_##NUMBER(GpuLaunch* launch, void** arguments) \
    {                                                                                  \
        launch->image_begin = __ehdr_start;                                            \
        launch->image_end = _end;                                                      \
        return gpu_launch(__VA_ARGS__, launch, arguments);                             \
    }
