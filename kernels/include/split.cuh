// Split-K: where a result has few values and each is a long sum, the sum is cut into parts that
// different blocks compute, and this kernel adds the parts up, always in the same order. (Atomic
// additions would save the second kernel, and the bits of the result would change from run to run.)
//   y[i] = finish(Σ parts[p][i], i)
//   A thread has four neighbouring values (x); up to 64 threads (y, a power of two) share their
//   parts, of which each has SUM_LOADS under way.
// Traffic: every part once, in loads of 128 bits where the number of values is a multiple of 4.

constexpr int SUM_THREADS = 256, SUM_LOADS = 8;

__device__ inline float4 operator+(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Four values, or as many as there are `left`.
template <bool QUADS> __device__ float4 load_four(const float* values, unsigned left)
{
    if (QUADS) return *(const float4*)values;
    return make_float4(values[0], left > 1 ? values[1] : 0.f, left > 2 ? values[2] : 0.f, left > 3 ? values[3] : 0.f);
}

template <bool QUADS> __device__ void store_four(float* values, float4 quad, unsigned left)
{
    if (QUADS) {
        *(float4*)values = quad;
        return;
    }
    const float four[] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
    for (int e = 0; e < 4; ++e)
        if (e < left) values[e] = four[e];
}

template <bool QUADS, class Store>
__device__ __forceinline__ void add_up(const float* __restrict__ parts, unsigned size, unsigned count, float4* sums,
                                       Store store)
{
    unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
    if (i < size)  // all threads must meet the barriers
        for (unsigned part = threadIdx.y; part < count; part += SUM_LOADS * blockDim.y) {
            float4 quads[SUM_LOADS];
#pragma unroll
            for (int e = 0; e < SUM_LOADS; ++e) {
                unsigned one = part + e * blockDim.y;
                quads[e] = one < count ? load_four<QUADS>(parts + (one * size + i), size - i)
                                       : make_float4(0.f, 0.f, 0.f, 0.f);
            }
#pragma unroll
            for (int e = 0; e < SUM_LOADS; ++e) sum = sum + quads[e];
        }
    unsigned at = threadIdx.y * blockDim.x + threadIdx.x;
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < 2 * half) sums[at] = sum;
        __syncthreads();  // the sums of the other half
        if (threadIdx.y < half) sum = sum + sums[at + half * blockDim.x];
    }
    if (threadIdx.y == 0 && i < size) store(sum, i);
}

template <class Finish>
__device__ __forceinline__ void add_up(float* __restrict__ y, const float* __restrict__ parts, unsigned size,
                                       unsigned count, Finish finish)
{
    __shared__ float4 sums[SUM_THREADS];
    if (size % 4 == 0 && ((size_t)y | (size_t)parts) % 16 == 0)
        add_up<true>(parts, size, count, sums,
                     [&](float4 sum, unsigned i) { store_four<true>(y + i, finish(sum, i), size - i); });
    else
        add_up<false>(parts, size, count, sums,
                      [&](float4 sum, unsigned i) { store_four<false>(y + i, finish(sum, i), size - i); });
}

struct Sum {
    __device__ float4 operator()(float4 sum, unsigned i) const { return sum; }
};

extern "C" __global__ void sum_parts(float* __restrict__ y, const float* __restrict__ parts, unsigned size,
                                     unsigned count)
{
    add_up(y, parts, size, count, Sum{});
}
