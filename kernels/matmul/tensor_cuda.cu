// Matmul on tensor cores with the error of float32: y (M, N) = a (M, K) · b (K, N). Grid: x counts
// tiles of TILE_M × TILE_N, y the parts of K. With several parts, y is (parts, M, N) and `sum_parts`
// follows. How a tile is computed is written in tensor.cuh; how the parts are added up, in
// split.cuh. Rows of a and of b, as they lie in memory, have a multiple of 4 values.

// defines: product
#include "tensor.cuh"
// defines: sum_parts
#include "split.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    matmul_tensor(float* __restrict__ y, const float* __restrict__ a, const float* __restrict__ b, unsigned M,
                  unsigned N, unsigned K, unsigned length)
{
    product<TRANSPOSE_A, TRANSPOSE_B>(y + blockIdx.y * (M * N), a, b, M, N, K, length);
}
