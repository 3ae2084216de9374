// What becomes of the four sums of a pooling window of 2 × 2: f of the largest + b, and the number of its
// cell, 0 … 3 in row-major order. The launcher defines FUNCTION, the number of f.

// gemm.cuh or tensor.cuh comes before: it defines THREAD_M, first_m, row_of and their like.

// defines: value
#include "activations.cuh"

constexpr int DEAD = 4;  // the cell where f is relu and the largest sum is not positive

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

// y and index for the part of the tile at (m, n) that lies inside M × N, whose rows are windows counted
// by fours.
__device__ __forceinline__ void write_largest(float* y, unsigned char* index, const float (&sums)[THREAD_M][THREAD_N],
                                              const float* b, float alpha, unsigned m, unsigned n, unsigned M,
                                              unsigned N)
{
    bool vector = N % 4 == 0 && (size_t)y % 16 == 0 && (size_t)index % 4 == 0;
    m += first_m(), n += first_n();
#pragma unroll
    for (int j = 0; j < THREAD_N; j += 4) {
        unsigned at_n = n + column_of(j);
        float bias[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) bias[e] = at_n + e < N ? __ldg(b + at_n + e) : 0.f;
#pragma unroll
        for (int i = 0; i < THREAD_M; i += 4) {
            if (m + row_of(i) >= M || at_n >= N) continue;
            float largest[4];
            unsigned cells[4];
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float window[] = {sums[i][j + e], sums[i + 1][j + e], sums[i + 2][j + e], sums[i + 3][j + e]};
                largest[e] = largest_of(window, bias[e], alpha, cells[e]);
            }
            unsigned at = (m + row_of(i)) / 4 * N + at_n;
            if (vector) {
                *(float4*)(y + at) = make_float4(largest[0], largest[1], largest[2], largest[3]);
                *(unsigned*)(index + at) = packed(cells);
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (at_n + e < N) y[at + e] = largest[e], index[at + e] = cells[e];
            }
        }
    }
}
