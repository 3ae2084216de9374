// Group normalisation: a few lanes, or a block, for each group of channels of each input.
//
//     y = (x - mean) / √(variance + epsilon) · gamma + beta
//     dx = (s - Σ s / L - normal · Σ s · normal / L) / √(variance + epsilon),  s = dy · gamma
//     dgamma[c] = Σ dy · normal over all inputs and positions
//
// A group of P positions has L = P · (C / groups) values, in runs of C / groups. It is read for its
// mean, for the squares around it and for the result; only the first time from beyond the cache.
// Grid: blocks of (threads of a group, groups) threads, see shared/rows_launch.py; for dgamma as in
// column_totals.cuh. gamma and beta may be null.

// defines: row_of_thread, row_sum
#include "rows.cuh"
// defines: column_totals
#include "column_totals.cuh"

// The values of one group: where value number j of it lies, and in which channel.
struct Group {
    unsigned start, channels, width, first, length;
    __device__ Group(unsigned row, unsigned rows, unsigned P, unsigned C, unsigned groups)
    {
        width = C / groups;
        channels = C;
        first = row % groups * width;
        start = row / groups * P * C + first;
        length = row < rows ? P * width : 0;
    }
    __device__ unsigned at(unsigned j) const { return start + j / width * channels + j % width; }
    __device__ unsigned channel(unsigned j) const { return first + j % width; }
};

extern "C" __global__ void groupnorm_rows(float* __restrict__ y, float* __restrict__ mean, float* __restrict__ variance,
                                          const float* __restrict__ x, const float* __restrict__ gamma,
                                          const float* __restrict__ beta, unsigned N, unsigned P, unsigned C,
                                          unsigned groups, float epsilon)
{
    unsigned row = row_of_thread();
    Group group(row, N * groups, P, C, groups);
    float count = (float)(P * (C / groups));
    float total = 0.f;
    for (unsigned j = threadIdx.x; j < group.length; j += blockDim.x) total += x[group.at(j)];
    float centre = row_sum(total) / count;

    float squares = 0.f;
    for (unsigned j = threadIdx.x; j < group.length; j += blockDim.x) {
        float centred = x[group.at(j)] - centre;
        squares = fmaf(centred, centred, squares);
    }
    float spread = row_sum(squares) / count, scale = 1.f / sqrtf(spread + epsilon);

    for (unsigned j = threadIdx.x; j < group.length; j += blockDim.x) {
        unsigned i = group.at(j), c = group.channel(j);
        float slope = gamma ? gamma[c] * scale : scale;
        y[i] = fmaf(x[i] - centre, slope, beta ? beta[c] : 0.f);
    }
    if (threadIdx.x == 0 && group.length) {
        mean[row] = centre;
        variance[row] = spread;
    }
}

extern "C" __global__ void groupnorm_grad_rows(float* __restrict__ dx, const float* __restrict__ dy,
                                               const float* __restrict__ x, const float* __restrict__ gamma,
                                               const float* __restrict__ mean, const float* __restrict__ variance,
                                               unsigned N, unsigned P, unsigned C, unsigned groups, float epsilon)
{
    unsigned row = row_of_thread();
    Group group(row, N * groups, P, C, groups);
    float count = (float)(P * (C / groups));
    float centre = group.length ? mean[row] : 0.f;
    float scale = group.length ? 1.f / sqrtf(variance[row] + epsilon) : 0.f;

    float plain = 0.f, along = 0.f;
    for (unsigned j = threadIdx.x; j < group.length; j += blockDim.x) {
        unsigned i = group.at(j);
        float slope = gamma ? dy[i] * gamma[group.channel(j)] : dy[i];
        plain += slope;
        along = fmaf(slope, (x[i] - centre) * scale, along);
    }
    float level = row_sum(plain) / count, tilt = row_sum(along) / count;

    for (unsigned j = threadIdx.x; j < group.length; j += blockDim.x) {
        unsigned i = group.at(j);
        float slope = gamma ? dy[i] * gamma[group.channel(j)] : dy[i];
        dx[i] = (slope - level - (x[i] - centre) * scale * tilt) * scale;
    }
}

struct TimesNormal {
    const float* __restrict__ dy, * __restrict__ x, * __restrict__ mean, * __restrict__ variance;
    unsigned image, C, groups;  // values of an input
    float epsilon;
    __device__ float operator()(unsigned i) const
    {
        unsigned group = i / image * groups + i % C / (C / groups);
        return dy[i] * (x[i] - mean[group]) / sqrtf(variance[group] + epsilon);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    groupnorm_grad_gamma_rows(float* __restrict__ dgamma, float* sums, const float* __restrict__ dy,
                              const float* __restrict__ x, const float* __restrict__ mean,
                              const float* __restrict__ variance, unsigned rows, unsigned columns, unsigned width,
                              unsigned rows_per_slice, unsigned P, unsigned groups, float epsilon)
{
    TimesNormal value = {dy, x, mean, variance, P * columns, columns, groups, epsilon};
    column_totals(dgamma, sums, value, rows, columns, width, rows_per_slice);
}
