// Dropout without a mask: Philox computes the random words again wherever they are used.
//   dropout          y[i] = word(i) < threshold ? 0 : x[i] · scale
//                    one thread for the four words of a counter
//   spatial_dropout  y[n, m, c] = word(n · C + c) < threshold ? 0 : x[n, m, c] · scale
//                    one thread for the words of a counter and POSITIONS positions m:
//                    4 · POSITIONS values
// Traffic: x and y once, 8 bytes for each value. step lies in device memory: a captured step can be
// replayed.

// defines: kept, words, Dropping
#include "dropping.cuh"

extern "C" __global__ void dropout_philox(float* __restrict__ y, const float* __restrict__ x,
                                          const long long* __restrict__ step, unsigned size, unsigned threshold,
                                          float scale, unsigned long long seed, unsigned stream, unsigned counter)
{
    unsigned block = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned first = 4 * block;
    if (first >= size) return;
    if (size - first >= 4) {
        Dropping dropping{step, threshold, scale, seed, stream, counter};
        ((float4*)y)[block] = dropping(((const float4*)x)[block], first);
        return;
    }
    uint4 word = words(counter + block, step, stream, seed);  // the last one, two or three values
    y[first] = kept(x[first], word.x, threshold, scale);
    if (first + 1 < size) y[first + 1] = kept(x[first + 1], word.y, threshold, scale);
    if (first + 2 < size) y[first + 2] = kept(x[first + 2], word.z, threshold, scale);
}

// x and y are N images of M positions of `quads` vectors. The lanes of an image are its first
// `chunks` positions, all channels of each; a lane continues with the positions behind at steps of
// `chunks`, so that a warp always touches consecutive values.
extern "C" __global__ void spatial_dropout_quads(float* __restrict__ y, const float* __restrict__ x,
                                                 const long long* __restrict__ step, unsigned N, unsigned M,
                                                 unsigned quads, unsigned chunks, unsigned threshold, float scale,
                                                 unsigned long long seed, unsigned stream, unsigned counter)
{
    const float4* from = (const float4*)x;
    float4* to = (float4*)y;
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned lanes = chunks * quads;
    unsigned n = i / lanes, lane = i % lanes;
    if (n >= N) return;
    unsigned chunk = lane / quads, quad = lane % quads;
    uint4 word = words(counter + n * quads + quad, step, stream, seed);
    unsigned at = n * M * quads + lane;
#pragma unroll
    for (int j = 0; j < POSITIONS; ++j)
        if (chunk + j * chunks < M) to[at + j * lanes] = kept(from[at + j * lanes], word, threshold, scale);
}

// Rows of C channels that no vector fits: one word of the four for each lane.
extern "C" __global__ void spatial_dropout_singles(float* __restrict__ y, const float* __restrict__ x,
                                                   const long long* __restrict__ step, unsigned N, unsigned M,
                                                   unsigned C, unsigned chunks, unsigned threshold, float scale,
                                                   unsigned long long seed, unsigned stream, unsigned counter)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned lanes = chunks * C;
    unsigned n = i / lanes, lane = i % lanes;
    if (n >= N) return;
    unsigned chunk = lane / C, channel = n * C + lane % C;
    uint4 four = words(counter + channel / 4, step, stream, seed);
    unsigned low = channel & 1 ? four.y : four.x, high = channel & 1 ? four.w : four.z;
    unsigned word = channel & 2 ? high : low;
    unsigned at = n * M * C + lane;
#pragma unroll
    for (int j = 0; j < POSITIONS; ++j)
        if (chunk + j * chunks < M) y[at + j * lanes] = kept(x[at + j * lanes], word, threshold, scale);
}
