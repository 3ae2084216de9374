// Softmax and its logarithm over rows of K values: y = exp(x - m) / Σ exp(x - m) with m the largest
// x of the row.
//
// Grid: blocks of (threads of a row, rows) threads, see shared/rows_launch.py: eight lanes for a
// row of 10 classes, a warp for 100, a block for 1000. A row is read three times, for m, for the
// sum and for the result, but only the first time from beyond the cache. Threads of a row that does
// not exist go without columns: they are needed in the reductions.

// defines: row_of_thread, enter_row, row_sum, largest_of_row, sum_of_row, sum_of_exponentials
#include "rows.cuh"

extern "C" __global__ void softmax_rows(float* __restrict__ y, const float* __restrict__ x, unsigned N, unsigned K)
{
    unsigned columns = enter_row(row_of_thread(), N, K, y, x);
    float largest = largest_of_row(x, columns);
    float scale = 1.f / sum_of_exponentials(x, columns, largest);
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) y[k] = expf(x[k] - largest) * scale;
}

// dx = y · (dy - Σ dy · y)
extern "C" __global__ void softmax_grad_rows(float* __restrict__ dx, const float* __restrict__ dy,
                                             const float* __restrict__ y, unsigned N, unsigned K)
{
    unsigned columns = enter_row(row_of_thread(), N, K, dx, dy, y);
    float total = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) total = fmaf(dy[k], y[k], total);
    total = row_sum(total);
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) dx[k] = y[k] * (dy[k] - total);
}

// y = x - m - log Σ exp(x - m): never the logarithm of a quotient that may have underflowed
extern "C" __global__ void log_softmax_rows(float* __restrict__ y, const float* __restrict__ x, unsigned N, unsigned K)
{
    unsigned columns = enter_row(row_of_thread(), N, K, y, x);
    float largest = largest_of_row(x, columns);
    float log_total = logf(sum_of_exponentials(x, columns, largest));
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) y[k] = (x[k] - largest) - log_total;
}

// dx = dy - exp(y) · Σ dy
extern "C" __global__ void log_softmax_grad_rows(float* __restrict__ dx, const float* __restrict__ dy,
                                                 const float* __restrict__ y, unsigned N, unsigned K)
{
    unsigned columns = enter_row(row_of_thread(), N, K, dx, dy, y);
    float total = sum_of_row(dy, columns);
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) dx[k] = dy[k] - expf(y[k]) * total;
}
