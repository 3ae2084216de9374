// The tile of a product whose rows are windows counted by fours: the largest of each four is written.

// gemm.cuh or tensor.cuh comes before: it defines THREAD_M, first_m, row_of and their like.

// defines: largest_of, packed
#include "largest.cuh"

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
