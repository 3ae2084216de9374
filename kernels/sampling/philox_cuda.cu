// Random words and uniforms: one thread for the four words of a Philox counter, written as one
// vector of 16 bytes.
//   random_bits     y[i] = word i % 4 of philox(i / 4, step, stream, purpose)
//   random_uniform  y[i] = (word >> 8) · 2^-24
// Each value depends on its place alone, so any grid gives the same bits.

// defines: philox, uniform
#include "philox.cuh"

__device__ __forceinline__ float4 uniform(uint4 word)
{
    return make_float4(uniform(word.x), uniform(word.y), uniform(word.z), uniform(word.w));
}

template <class Four, class One>
__device__ __forceinline__ void store(One* y, unsigned first, unsigned count, Four values)
{
    if (count - first >= 4) {
        *(Four*)(y + first) = values;
        return;
    }
    y[first] = values.x;  // the last one, two or three values
    if (first + 1 < count) y[first + 1] = values.y;
    if (first + 2 < count) y[first + 2] = values.z;
}

extern "C" __global__ void random_bits(unsigned* __restrict__ y, const long long* __restrict__ step, unsigned count,
                                       unsigned long long seed, unsigned stream, unsigned purpose)
{
    unsigned block = blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * block >= count) return;
    store(y, 4 * block, count, philox(make_uint4(block, (unsigned)*step, stream, purpose), seed));
}

extern "C" __global__ void random_uniform(float* __restrict__ y, const long long* __restrict__ step, unsigned count,
                                          unsigned long long seed, unsigned stream, unsigned purpose)
{
    unsigned block = blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * block >= count) return;
    store(y, 4 * block, count, uniform(philox(make_uint4(block, (unsigned)*step, stream, purpose), seed)));
}
