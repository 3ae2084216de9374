// Split-K: where a result has few values and each is a long sum, the sum is cut into parts that
// different blocks compute, and this kernel adds the parts up, always in the same order. (Atomic
// additions would save the second kernel, and the bits of the result would change from run to run.)
//   y[i] = finish(Σ parts[p][i], i)
//   A block has 32 values (x), each with up to SUM_THREADS threads (y) that share its parts.
// Traffic: every part once, coalesced.

constexpr int SUM_THREADS = 32;

template <class Finish>
__device__ __forceinline__ void add_up(float* __restrict__ y, const float* __restrict__ parts, unsigned size,
                                       unsigned count, Finish finish)
{
    __shared__ float sums[SUM_THREADS][32];
    unsigned i = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.f;
    if (i < size)  // all threads must meet the barrier
        for (unsigned part = threadIdx.y; part < count; part += blockDim.y) sum += parts[part * size + i];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();  // the sums of all threads of a value
    if (threadIdx.y > 0 || i >= size) return;
    for (unsigned s = 1; s < blockDim.y; ++s) sum += sums[s][threadIdx.x];
    y[i] = finish(sum, i);
}

struct Sum {
    __device__ float operator()(float sum, unsigned i) const { return sum; }
};

extern "C" __global__ void sum_parts(float* __restrict__ y, const float* __restrict__ parts, unsigned size,
                                     unsigned count)
{
    add_up(y, parts, size, count, Sum{});
}
