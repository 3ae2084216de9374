// What becomes of the four sums of a pooling window of 2 × 2: f of the largest + b, and the number of its
// cell, 0 … 3 in row-major order. The launcher defines FUNCTION, the number of f.

// defines: value
#include "activations.cuh"
// defines: DEAD
#include "unpool.cuh"

__device__ __forceinline__ float largest_of(const float (&sums)[4], float bias, float alpha, unsigned& cell)
{
    float best = sums[0];
    cell = 0;
#pragma unroll
    for (int other = 1; other < 4; ++other) {
        float sum = sums[other];
        bool larger = !(sum <= best) && best == best;  // the first NaN stays
        best = larger ? sum : best, cell = larger ? other : cell;
    }
    best += bias;
    if (FUNCTION == RELU && best <= 0.f) cell = DEAD;
    return value(FUNCTION, best, alpha);
}

__device__ __forceinline__ unsigned packed(const unsigned (&cells)[4])
{
    return cells[0] | cells[1] << 8 | cells[2] << 16 | cells[3] << 24;
}
