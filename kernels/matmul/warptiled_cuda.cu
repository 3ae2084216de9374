// Warp-tiled matmul: y (M, N) = a (M, K) · b (K, N), where almost every instruction of the main
// loop is an FMA. Grid: x counts tiles of TILE_M × TILE_N, y the parts of K. With several parts, y
// is (parts, M, N) and `sum_parts` follows. How a tile is computed is written in gemm.cuh; how the
// parts are added up, in split.cuh.

// defines: SLAB_A, SLAB_B, product
#include "gemm.cuh"
// defines: sum_parts
#include "split.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    matmul_warptiled(float* __restrict__ y, const float* __restrict__ a, const float* __restrict__ b, unsigned M,
                     unsigned N, unsigned K, unsigned length)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];  // one half is read while the other fills
    unsigned pitch_a = A_TRANSPOSED ? M : K, pitch_b = B_TRANSPOSED ? K : N;
    product<A_TRANSPOSED, B_TRANSPOSED>(y + blockIdx.y * (M * N), a, b, M, N, K, N, pitch_a, pitch_b, length, false,
                                        a_slabs, b_slabs);
}
