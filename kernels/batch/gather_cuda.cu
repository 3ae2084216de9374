// All that a step takes from the data set on the device, in one launch: one block for CHUNK values of
// one image, which is converted to float32 on the way.
//   x[row, e] = images[sample(row), e]
// The block with a row's first values copies the row's labels and weights too, and the first block of
// all the table's row of this step and the counters of the next one.
// sample(row) = order[(batch · batch_size + first_row + row) mod n], computed once for each block and shared by
// its threads. Traffic: 5 bytes for a pixel (1 read, 4 written), as whole vectors where an image has
// a multiple of 4 values.

// defines: shuffled
#include "permutation.cuh"

// Labels and weights are words of 32 bits, whatever they mean.
__device__ __forceinline__ void copy_words(int* to, const int* from, unsigned count)
{
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}

// The numbers of batch, epoch and all steps after this one.
__device__ __forceinline__ void count(long long* following, const long long* counters, long long steps)
{
    bool last = counters[0] + 1 >= steps;
    following[0] = last ? 0 : counters[0] + 1;
    following[1] = counters[1] + last;
    following[2] = counters[2] + 1;
}

template <class Four, class One>
__device__ __forceinline__ void gather(float* x, long long* following, int* y, int* factors, int* row_of_table,
                                       const long long* counters, const One* images, const int* labels,
                                       const int* weights, const int* table, unsigned n, unsigned samples,
                                       unsigned values, unsigned chunks, unsigned of_label, unsigned of_weight,
                                       unsigned columns, unsigned rows_of_table, unsigned first_row,
                                       unsigned batch_size, long long steps, unsigned ring, unsigned long long seed,
                                       unsigned stream, bool shuffle)
{
    __shared__ unsigned image, sample;
    unsigned row = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    unsigned long long batch = counters[0];
    if (threadIdx.x == 0) {
        unsigned long long position = batch * batch_size + first_row + row;
        unsigned start = (unsigned)(position < samples ? position : position % samples);  // a slow division, and rare
        sample = shuffle && !(ring && chunk) ? shuffled(start, samples, (unsigned)counters[1], seed, stream) : start;
        image = ring ? (unsigned)((batch * ring + row) % n) : sample;
    }
    __syncthreads();  // the row's sample is known
    const One* from = images + (size_t)image * values;
    float* to = x + (size_t)row * values;
    unsigned first = chunk * CHUNK, last = min(values, first + CHUNK);
    if (values % 4 == 0) {
#pragma unroll 4
        for (unsigned e = first + 4 * threadIdx.x; e < last; e += 4 * blockDim.x) {
            Four four = *(const Four*)(from + e);
            *(float4*)(to + e) = make_float4((float)four.x, (float)four.y, (float)four.z, (float)four.w);
        }
    } else {
        for (unsigned e = first + threadIdx.x; e < last; e += blockDim.x) to[e] = (float)from[e];
    }
    if (chunk) return;
    copy_words(y + row * of_label, labels + sample * of_label, of_label);
    copy_words(factors + row * of_weight, weights + sample * of_weight, of_weight);
    if (row) return;
    if (columns) copy_words(row_of_table, table + (unsigned)(batch % rows_of_table) * columns, columns);
    if (threadIdx.x == 0) count(following, counters, steps);
}

extern "C" __global__ void gather_bytes(float* __restrict__ x, long long* __restrict__ following, int* __restrict__ y,
                                        int* __restrict__ factors, int* __restrict__ row_of_table,
                                        const long long* __restrict__ counters,
                                        const unsigned char* __restrict__ images, const int* __restrict__ labels,
                                        const int* __restrict__ weights, const int* __restrict__ table, unsigned n,
                                        unsigned samples, unsigned values, unsigned chunks, unsigned of_label,
                                        unsigned of_weight, unsigned columns, unsigned rows_of_table,
                                        unsigned first_row, unsigned batch_size, long long steps, unsigned ring,
                                        unsigned long long seed, unsigned stream, bool shuffle)
{
    gather<uchar4>(x, following, y, factors, row_of_table, counters, images, labels, weights, table, n, samples, values,
                   chunks, of_label, of_weight, columns, rows_of_table, first_row, batch_size, steps, ring, seed,
                   stream, shuffle);
}

extern "C" __global__ void gather_floats(float* __restrict__ x, long long* __restrict__ following, int* __restrict__ y,
                                         int* __restrict__ factors, int* __restrict__ row_of_table,
                                         const long long* __restrict__ counters, const float* __restrict__ images,
                                         const int* __restrict__ labels, const int* __restrict__ weights,
                                         const int* __restrict__ table, unsigned n, unsigned samples, unsigned values,
                                         unsigned chunks, unsigned of_label, unsigned of_weight, unsigned columns,
                                         unsigned rows_of_table, unsigned first_row, unsigned batch_size,
                                         long long steps, unsigned ring, unsigned long long seed, unsigned stream,
                                         bool shuffle)
{
    gather<float4>(x, following, y, factors, row_of_table, counters, images, labels, weights, table, n, samples, values,
                   chunks, of_label, of_weight, columns, rows_of_table, first_row, batch_size, steps, ring, seed,
                   stream, shuffle);
}
