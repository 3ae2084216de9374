// Pick a batch out of the data set on the device, in the epoch's order, scaled to float32 on the
// way.
//   gather_images  y[row, e] = images[sample(row), e] · scale + offset
//                  one block for CHUNK values of one row
//   gather_labels  y[row, k] = labels[sample(row), k]
//                  one block for rows of about 1000 values
// sample(row) = order[(batch · batch_size + begin + row) mod n], computed once for each row and block,
// shared by its threads. Traffic: 5 bytes for a pixel (1 read, 4 written), as whole vectors where
// an image has a multiple of 4 values.

// defines: shuffled
#include "permutation.cuh"

__device__ __forceinline__ unsigned sample(unsigned row, unsigned n, const long long* epoch, const long long* batch,
                                           unsigned begin, unsigned batch_size, unsigned long long seed,
                                           unsigned stream, bool shuffle)
{
    unsigned long long position = (unsigned long long)*batch * batch_size + begin + row;
    if (position >= n) position %= n;  // a slow division, and hardly ever needed
    return shuffle ? shuffled((unsigned)position, n, (unsigned)*epoch, seed, stream) : (unsigned)position;
}

// scale = high + low to about 48 bits, so that the product is rounded once: k / 255 comes out as
// the division gives it.
__device__ __forceinline__ float scaled(unsigned char pixel, float high, float low, float offset)
{
    return fmaf((float)pixel, high, fmaf((float)pixel, low, offset));
}

__device__ __forceinline__ float scaled(float pixel, float scale, float, float offset)
{
    return fmaf(pixel, scale, offset);
}

template <class Four, class One>
__device__ __forceinline__ void gather(float* y, const One* images, const long long* epoch, const long long* batch,
                                       unsigned n, unsigned values, unsigned chunks, unsigned begin,
                                       unsigned batch_size, unsigned long long seed, unsigned stream, bool shuffle,
                                       float high, float low, float offset)
{
    __shared__ unsigned shared_sample;
    unsigned row = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    if (threadIdx.x == 0) shared_sample = sample(row, n, epoch, batch, begin, batch_size, seed, stream, shuffle);
    __syncthreads();  // the row's sample is known
    const One* from = images + shared_sample * values;
    float* to = y + row * values;
    unsigned first = chunk * CHUNK, last = min(values, first + CHUNK);
    if (values % 4 == 0) {
#pragma unroll 4
        for (unsigned e = first + 4 * threadIdx.x; e < last; e += 4 * blockDim.x) {
            Four four = *(const Four*)(from + e);
            *(float4*)(to + e) = make_float4(scaled(four.x, high, low, offset), scaled(four.y, high, low, offset),
                                             scaled(four.z, high, low, offset), scaled(four.w, high, low, offset));
        }
    } else {
        for (unsigned e = first + threadIdx.x; e < last; e += blockDim.x) to[e] = scaled(from[e], high, low, offset);
    }
}

extern "C" __global__ void gather_bytes(float* __restrict__ y, const unsigned char* __restrict__ images,
                                        const long long* __restrict__ epoch, const long long* __restrict__ batch,
                                        unsigned n, unsigned values, unsigned chunks, unsigned begin,
                                        unsigned batch_size, unsigned long long seed, unsigned stream, bool shuffle,
                                        float high, float low, float offset)
{
    gather<uchar4>(y, images, epoch, batch, n, values, chunks, begin, batch_size, seed, stream, shuffle, high, low,
                   offset);
}

extern "C" __global__ void gather_floats(float* __restrict__ y, const float* __restrict__ images,
                                         const long long* __restrict__ epoch, const long long* __restrict__ batch,
                                         unsigned n, unsigned values, unsigned chunks, unsigned begin,
                                         unsigned batch_size, unsigned long long seed, unsigned stream, bool shuffle,
                                         float scale, float offset)
{
    gather<float4>(y, images, epoch, batch, n, values, chunks, begin, batch_size, seed, stream, shuffle, scale, 0.f,
                   offset);
}

// A block picks `rows_of_block` rows: as many threads compute one sample each, then all copy.
template <class Label>
__device__ __forceinline__ void gather_rows(Label* y, const Label* labels, const long long* epoch,
                                            const long long* batch, unsigned n, unsigned rows, unsigned values,
                                            unsigned rows_of_block, unsigned begin, unsigned batch_size,
                                            unsigned long long seed, unsigned stream, bool shuffle)
{
    __shared__ unsigned samples[THREADS];
    unsigned first = blockIdx.x * rows_of_block, count = min(rows_of_block, rows - first);
    if (threadIdx.x < count)
        samples[threadIdx.x] = sample(first + threadIdx.x, n, epoch, batch, begin, batch_size, seed, stream, shuffle);
    __syncthreads();  // the samples of all rows of the block are known
    for (unsigned i = threadIdx.x; i < count * values; i += THREADS)
        y[first * values + i] = labels[samples[i / values] * values + i % values];
}

extern "C" __global__ void gather_integers(int* __restrict__ y, const int* __restrict__ labels,
                                           const long long* __restrict__ epoch, const long long* __restrict__ batch,
                                           unsigned n, unsigned rows, unsigned values, unsigned rows_of_block,
                                           unsigned begin, unsigned batch_size, unsigned long long seed,
                                           unsigned stream, bool shuffle)
{
    gather_rows(y, labels, epoch, batch, n, rows, values, rows_of_block, begin, batch_size, seed, stream, shuffle);
}

extern "C" __global__ void gather_reals(float* __restrict__ y, const float* __restrict__ labels,
                                        const long long* __restrict__ epoch, const long long* __restrict__ batch,
                                        unsigned n, unsigned rows, unsigned values, unsigned rows_of_block,
                                        unsigned begin, unsigned batch_size, unsigned long long seed, unsigned stream,
                                        bool shuffle)
{
    gather_rows(y, labels, epoch, batch, n, rows, values, rows_of_block, begin, batch_size, seed, stream, shuffle);
}
