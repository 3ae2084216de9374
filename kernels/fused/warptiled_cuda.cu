// Warp-tiled dense layer: y (M, N) = f(x (M, K) · weight (K, N) + b (N)). The product is that of
// gemm.cuh; bias_activation.cuh finishes the sums while they are in registers.
//
// Grid: x counts tiles of TILE_M × TILE_N, y the parts of K. With several parts, y is (parts, M, N),
// b is null, and `sum_parts_bias_activation` follows.

// defines: SLAB_A, SLAB_B, product
#include "gemm.cuh"
// defines: BiasActivation, sum_parts_bias_activation
#include "bias_activation.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    matmul_bias_activation_warptiled(float* __restrict__ y, const float* __restrict__ x,
                                     const float* __restrict__ weight, const float* __restrict__ b, float alpha,
                                     const long long* __restrict__ step, unsigned threshold, float scale,
                                     unsigned long long seed, unsigned stream, unsigned counter, unsigned M, unsigned N,
                                     unsigned K, unsigned length)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];  // one half is read while the other fills
    product<false, false>(y + blockIdx.y * (M * N), x, weight, M, N, K, N, K, N, length, false, a_slabs, b_slabs,
                          BiasActivation{b, alpha, y, {step, threshold, scale, seed, stream, counter}});
}
