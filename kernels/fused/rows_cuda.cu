// The gradient of max(z + b, 0) over rows: dz[i, k] = dy[i, k] where y[i, k] is not 0, else 0, and
// db[k] = Σ dz[i, k], all leading axes flattened.
//
// dz is made and added up in one pass: 12 bytes for each value, where two kernels move 16 and one
// of them waits for the other. The sum is cut into slices, one block for each slice and 32 channels,
// and the last block adds up the slices (include/column_totals.cuh). A thread's loads of four rows
// are under way before it writes the first of them, since loads through the read-only cache may
// pass writes.

// defines: column_totals
#include "column_totals.cuh"

struct Masked {
    float* __restrict__ dz;
    const float* __restrict__ dy;
    const float* __restrict__ y;

    __device__ float operator()(unsigned i) const
    {
        float value = __ldg(dy + i), result = __ldg(y + i);  // neither load waits for the other
        value = result <= 0.f ? 0.f : value;
        dz[i] = value;
        return value;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    bias_relu_grad_rows(float* __restrict__ db, float* sums, float* __restrict__ dz, const float* __restrict__ dy,
                        const float* __restrict__ y, unsigned rows, unsigned columns, unsigned width,
                        unsigned rows_per_slice)
{
    column_totals(db, sums, Masked{dz, dy, y}, rows, columns, width, rows_per_slice);
}
