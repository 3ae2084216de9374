// The largest of each pooling window of 2 × 2, of sums that were cut into parts.

// defines: largest_of, packed
#include "largest.cuh"
// defines: SUM_THREADS
#include "split.cuh"

// y, index = the largest of four rows of the parts, added up, for `size` values of y. A thread (x) has
// four neighbouring filters; up to 64 threads (y, a power of two) share their parts. K is a multiple
// of 4.
extern "C" __global__ void sum_parts_largest(float* __restrict__ y, unsigned char* __restrict__ index,
                                             const float* __restrict__ parts, const float* __restrict__ b, float alpha,
                                             unsigned size, unsigned count, unsigned K)
{
    __shared__ float4 sums[4][SUM_THREADS];
    unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * 4, k = i % K;
    const float* from = parts + ((i - k) * 4 + k);
    float4 sum[4] = {};
    if (i < size)  // all threads must meet the barriers
#pragma unroll 2
        for (unsigned part = threadIdx.y; part < count; part += blockDim.y)
#pragma unroll
            for (int cell = 0; cell < 4; ++cell)
                sum[cell] = sum[cell] + *(const float4*)(from + (part * size * 4 + cell * K));
    unsigned at = threadIdx.y * blockDim.x + threadIdx.x;
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < 2 * half)
#pragma unroll
            for (int cell = 0; cell < 4; ++cell) sums[cell][at] = sum[cell];
        __syncthreads();  // the sums of the other half
        if (threadIdx.y < half)
#pragma unroll
            for (int cell = 0; cell < 4; ++cell) sum[cell] = sum[cell] + sums[cell][at + half * blockDim.x];
    }
    if (threadIdx.y > 0 || i >= size) return;
    float largest[4];
    unsigned cells[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        const float window[] = {(&sum[0].x)[e], (&sum[1].x)[e], (&sum[2].x)[e], (&sum[3].x)[e]};
        largest[e] = largest_of(window, __ldg(b + k + e), alpha, cells[e]);
    }
    *(float4*)(y + i) = make_float4(largest[0], largest[1], largest[2], largest[3]);
    *(unsigned*)(index + i) = packed(cells);
}
