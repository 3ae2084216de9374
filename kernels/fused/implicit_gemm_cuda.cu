// Implicit GEMM that finishes its sums: y = f(patches of x (N P Q, R S C) · weight (R S C, K) + b),
// where patches.cuh locates the patches and bias_activation.cuh adds and applies f while the sums are
// in registers.
//
// Grid: x counts the tiles, y the parts of the sum. With several parts the result is (parts, …), b
// is null, and `sum_parts_bias_activation` follows.

// defines: Windows
#include "windows.cuh"
// defines: Patches, multiply_images
#include "patches.cuh"
// defines: BiasActivation, sum_parts_bias_activation
#include "bias_activation.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) conv2d_bias_activation_implicit_gemm(
    float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ b,
    float alpha, const long long* __restrict__ step, unsigned threshold, float scale, unsigned long long seed,
    unsigned stream, unsigned counter, unsigned N, int H, int W, int C, int P, int Q, int K, int R, int S, int channels,
    int filters, int stride_h, int stride_w, int top, int left, int dilation_h, int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, channels, P, Q, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    multiply_images<Patches>(y, x, weight, windows, N * P * Q, R * S * channels, K, filters, length,
                             BiasActivation{b, alpha, y, {step, threshold, scale, seed, stream, counter}});
}
