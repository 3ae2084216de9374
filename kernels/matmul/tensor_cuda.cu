// Matmul on tensor cores with the error of float32: y (M, N) = a (M, K) · b (K, N). Grid: x counts
// tiles of TILE_M × TILE_N, y the parts of K. With several parts, y is (parts, M, N) and `sum_parts`
// follows. How a tile is computed is written in tensor.cuh; how the parts are added up, in
// split.cuh. Rows of a and of b, as they lie in memory, have a multiple of 4 values.

// defines: SLAB_A, SLAB_B, MatrixCopies, multiply, aligned, compute, Rows, write, Task
#include "tensor.cuh"
// defines: sum_parts
#include "split.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    matmul_tensor(float* __restrict__ y, const float* __restrict__ a, const float* __restrict__ b, unsigned M,
                  unsigned N, unsigned K, unsigned length)
{
    __align__(16) __shared__ float a_slabs[STAGES * SLAB_A], b_slabs[STAGES * SLAB_B];
    unsigned pitch_a = TRANSPOSE_A ? M : K, pitch_b = TRANSPOSE_B ? K : N;
    Task task(blockIdx.x, N, K, length);
    float sums[8][8];
    compute(
        sums, aligned(a, b),
        [&] {
            MatrixCopies<TILE_M, !TRANSPOSE_A, true> rows_of_a(a, pitch_a, M, task.m, task.k, task.end);
            MatrixCopies<TILE_N, TRANSPOSE_B, true> columns_of_b(b, pitch_b, N, task.n, task.k, task.end);
            multiply<false>(sums, rows_of_a, columns_of_b, task.slabs, a_slabs, b_slabs);
        },
        [&] {
            MatrixCopies<TILE_M, !TRANSPOSE_A, false> rows_of_a(a, pitch_a, M, task.m, task.k, task.end);
            MatrixCopies<TILE_N, TRANSPOSE_B, false> columns_of_b(b, pitch_b, N, task.n, task.k, task.end);
            multiply<true>(sums, rows_of_a, columns_of_b, task.slabs, a_slabs, b_slabs);
        });
    write(Rows{y + blockIdx.y * (M * N), N}, sums, task.m, task.n, M, N);
}
