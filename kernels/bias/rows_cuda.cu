// Bias over rows: y[i, k] = x[i, k] + b[k], and its gradient db[k] = Σ dy[i, k], all leading axes
// flattened.
//
// Both move memory and do nothing else: 8 bytes per addition forward, 4 backward. Forward, a thread
// takes four neighbouring values as 16 bytes, whatever K is, and counts the channel up as it goes
// along them; the grid covers x. Backward, the sum is cut into slices, one block for each slice and
// 32 channels, and the last block adds up the slices (include/column_totals.cuh).

// defines: InMemory
#include "column_sums.cuh"
// defines: column_totals
#include "column_totals.cuh"

extern "C" __global__ void bias_rows(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ b,
                                     unsigned size, unsigned K)
{
    unsigned first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= size) return;
    unsigned k = first % K;

    if (first + 4 > size) {  // the last values, fewer than four
        for (unsigned i = first; i < size; ++i, k = k + 1 < K ? k + 1 : 0) y[i] = x[i] + b[k];
        return;
    }
    float4 four = *reinterpret_cast<const float4*>(x + first);
    four.x += __ldg(b + k), k = k + 1 < K ? k + 1 : 0;
    four.y += __ldg(b + k), k = k + 1 < K ? k + 1 : 0;
    four.z += __ldg(b + k), k = k + 1 < K ? k + 1 : 0;
    four.w += __ldg(b + k);
    *reinterpret_cast<float4*>(y + first) = four;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    bias_grad_rows(float* __restrict__ db, float* sums, const float* __restrict__ dy, unsigned rows, unsigned columns,
                   unsigned width, unsigned rows_per_slice)
{
    column_totals(db, sums, InMemory{dy}, rows, columns, width, rows_per_slice);
}
