// Dropout where values are written: four random words cost ten rounds of Philox, no mask and no pass over
// memory. step lies in device memory: a recorded step can be replayed.
//
// Of the compiler's command line: DROPS, whether any value is dropped.

// defines: DROPOUT, philox
#include "philox.cuh"

__device__ __forceinline__ float kept(float x, unsigned word, unsigned threshold, float scale)
{
    return word < threshold ? 0.f : x * scale;
}

__device__ __forceinline__ float4 kept(float4 x, uint4 word, unsigned threshold, float scale)
{
    return make_float4(kept(x.x, word.x, threshold, scale), kept(x.y, word.y, threshold, scale),
                       kept(x.z, word.z, threshold, scale), kept(x.w, word.w, threshold, scale));
}

__device__ __forceinline__ uint4 words(unsigned block, const long long* step, unsigned stream, unsigned long long seed)
{
    return philox(make_uint4(block, (unsigned)__ldg(step), stream, DROPOUT), seed);
}

struct Dropping {
    const long long* __restrict__ step;
    unsigned threshold;
    float scale;
    unsigned long long seed;
    unsigned stream, counter;

    // Four neighbours in an array, of which the first is its element `first`, a multiple of 4.
    __device__ __forceinline__ float4 operator()(float4 values, unsigned first) const
    {
        if (!DROPS) return values;
        return kept(values, words(counter + first / 4, step, stream, seed), threshold, scale);
    }
};
