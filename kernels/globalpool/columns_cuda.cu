// Global pooling: y[n,c] = mean or maximum over m of x[n,m,c], x (N, M, C) being N images of M
// positions.
//
// A block takes one image and the blockDim.x packs of channels of one group: the threads of a row
// read neighbouring channels, and each column of threads divides the positions among its blockDim.y
// threads, whose results meet in shared memory. Grid: N · groups blocks. blockDim.y is a power of
// two. The gradient of the mean is one thread per pack of dx.

// defines: Pack, load, store
#include "pack.cuh"
// defines: stream
#include "stream.cuh"
// defines: Sum, add, rounded, add_columns
#include "sum.cuh"

// What a thread works on: image n, channels c … c + PACK - 1, if c < C. Threads beyond the last
// channel must still meet the barriers.
struct Column {
    unsigned n, c;
    bool exists;
};

__device__ Column column(unsigned groups, unsigned C)
{
    unsigned n = blockIdx.x / groups, group = blockIdx.x - n * groups;
    unsigned c = (group * blockDim.x + threadIdx.x) * PACK;
    return {n, c, c < C};
}

// visit(m, x at position m of the column) for each position of the thread
template <class Visit> __device__ void for_positions(const float* x, Column at, unsigned M, unsigned C, Visit visit)
{
    auto read = [&](unsigned m) { return load(x + (at.n * M + m) * C + at.c); };
    stream(threadIdx.y, at.exists ? M : 0, blockDim.y, read, visit);
}

// A value and its position. A NaN beats every number, and the first of equals wins: a definite
// order, so that it does not matter how the positions are divided among threads.
struct Best {
    float value;
    unsigned m;
};

__device__ bool beats(const Best& a, const Best& b)
{
    bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    bool better = a.value > b.value | (a_nan & !b_nan), equal = a.value == b.value | (a_nan & b_nan);
    return better | (equal & a.m < b.m);
}

// The best value of each channel of a column, to all its threads.
__device__ void find_best(Best (&best)[PACK], const float* x, Column at, unsigned M, unsigned C)
{
    __shared__ Best shared[PACK][THREADS];
    for (int j = 0; j < PACK; ++j) best[j] = {-__int_as_float(0x7f800000), M};  // minus infinity, behind all others
    for_positions(x, at, M, C, [&](unsigned m, const Pack& cell) {
        for (int j = 0; j < PACK; ++j) {
            Best next = {cell.lane[j], m};
            if (beats(next, best[j])) best[j] = next;
        }
    });
    unsigned t = threadIdx.y * blockDim.x + threadIdx.x;
    for (int j = 0; j < PACK; ++j) shared[j][t] = best[j];
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();  // until the upper half has written what it found
        if (threadIdx.y < half)
            for (int j = 0; j < PACK; ++j) {
                Best other = shared[j][t + half * blockDim.x];
                if (beats(other, shared[j][t])) shared[j][t] = other;
            }
    }
    __syncthreads();  // until the winners are written
    for (int j = 0; j < PACK; ++j) best[j] = shared[j][threadIdx.x];
}

extern "C" __global__ void globalavgpool_columns(float* __restrict__ y, const float* __restrict__ x, unsigned groups,
                                                 unsigned M, unsigned C)
{
    Column at = column(groups, C);
    Sum sums[PACK] = {};
    for_positions(x, at, M, C, [&](unsigned, const Pack& cell) {
        for (int j = 0; j < PACK; ++j) add(sums[j], cell.lane[j]);
    });
    add_columns(sums);
    if (!at.exists || threadIdx.y != 0) return;
    Pack mean;
    for (int j = 0; j < PACK; ++j) mean.lane[j] = rounded(sums[j]) / (float)M;
    store(y + at.n * C + at.c, mean);
}

extern "C" __global__ void globalavgpool_grad_columns(float* __restrict__ dx, const float* __restrict__ dy,
                                                      unsigned packs, unsigned M, unsigned C)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    unsigned in_pixel = C / PACK, n = i / (M * in_pixel), c = i % in_pixel * PACK;
    Pack gradient = load(dy + n * C + c);
    float share = 1.f / (float)M;
    for (int j = 0; j < PACK; ++j) gradient.lane[j] *= share;
    store(dx + i * PACK, gradient);
}

extern "C" __global__ void globalmaxpool_columns(float* __restrict__ y, const float* __restrict__ x, unsigned groups,
                                                 unsigned M, unsigned C)
{
    Column at = column(groups, C);
    Best best[PACK];
    find_best(best, x, at, M, C);
    if (!at.exists || threadIdx.y != 0) return;
    Pack values;
    for (int j = 0; j < PACK; ++j) values.lane[j] = best[j].value;
    store(y + at.n * C + at.c, values);
}

extern "C" __global__ void globalmaxpool_grad_columns(float* __restrict__ dx, const float* __restrict__ dy,
                                                      const float* __restrict__ x, unsigned groups, unsigned M,
                                                      unsigned C)
{
    Column at = column(groups, C);
    Best best[PACK];
    find_best(best, x, at, M, C);
    if (!at.exists) return;
    Pack gradient = load(dy + at.n * C + at.c);
    for (unsigned m = threadIdx.y; m < M; m += blockDim.y) {
        Pack part;
        for (int j = 0; j < PACK; ++j) part.lane[j] = m == best[j].m ? gradient.lane[j] : 0.f;
        store(dx + (at.n * M + m) * C + at.c, part);
    }
}
