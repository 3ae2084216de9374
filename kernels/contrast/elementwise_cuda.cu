// Contrast changed at random: y = (x - mean) f + mean, clipped, one thread for a value, `blocks` blocks
// for an image, each of which draws the image's factor once. It moves 8 bytes for a value and is
// as fast as memory is, but for images so small that ten rounds of Philox cost more.

// defines: AUGMENT, philox, uniform
#include "philox.cuh"

extern "C" __global__ void random_contrast(float* __restrict__ y, const float* __restrict__ x,
                                           const float* __restrict__ mean, const long long* __restrict__ step,
                                           unsigned blocks, unsigned values, unsigned C, float low, float width,
                                           float least, float most, unsigned long long seed, unsigned stream,
                                           unsigned counter)
{
    unsigned n = blockIdx.x / blocks;
    __shared__ float factor;
    if (threadIdx.x == 0) {
        uint4 four = philox(make_uint4(counter + n / 4, (unsigned)*step, stream, AUGMENT), seed);
        unsigned low_pair = n & 1 ? four.y : four.x, high_pair = n & 1 ? four.w : four.z;
        factor = low + width * uniform(n & 2 ? high_pair : low_pair);
    }
    __syncthreads();
    unsigned i = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    if (i >= values) return;
    size_t at = (size_t)n * values + i;
    float centre = mean[n * C + i % C];
    y[at] = fminf(fmaxf((x[at] - centre) * factor + centre, least), most);
}
