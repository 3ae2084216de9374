// The parts of two results that a kernel computes together, a gradient of the weight and one of the bias.

// defines: SUM_THREADS, add_up
#include "split.cuh"

// dweight and db = the parts of both, in one row after the other, added up.
extern "C" __global__ void sum_parts_of_both(float* __restrict__ dweight, float* __restrict__ db,
                                             const float* __restrict__ parts, unsigned size_of_weight,
                                             unsigned size_of_bias, unsigned count)
{
    __shared__ float4 sums[SUM_THREADS];
    unsigned size = size_of_weight + size_of_bias;
    if ((size_of_weight | size_of_bias) % 4 == 0 && ((size_t)dweight | (size_t)db | (size_t)parts) % 16 == 0)
        add_up<true>(parts, size, count, sums, [&](float4 sum, unsigned i) {
            *(float4*)(i < size_of_weight ? dweight + i : db + (i - size_of_weight)) = sum;
        });
    else
        add_up<false>(parts, size, count, sums, [&](float4 sum, unsigned i) {
            const float four[] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
            for (unsigned e = i; e < min(i + 4, size); ++e)
                *(e < size_of_weight ? dweight + e : db + (e - size_of_weight)) = four[e - i];
        });
}
