// Convolution as a matrix product whose left matrix is never stored: its values are located in the
// images by index arithmetic while a slab travels to shared memory. gemm.cuh multiplies; patches.cuh
// and input_gradient.cuh bring the sources of the three products:
//
//   y       (N P Q, K)  = patches of x (N P Q, R S C) · weight (R S C, K)
//   dx      (H W N, C)  = patches of dy (H W N, R S K) · weight turned around (R S K, C)
//   dweight (R S C, K)  = patches of x, transposed (R S C, N P Q) · dy (N P Q, K)
//
// Grid: x counts the tiles (for dx: of all remainders), y the parts of the sum, z the groups. With
// several parts the result is (parts, …), and `sum_parts` follows.

// defines: Windows
#include "windows.cuh"
// defines: Patches, PixelTaps, multiply_images
#include "patches.cuh"
// defines: Stored, multiply_gradient
#include "input_gradient.cuh"
// defines: sum_parts
#include "split.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_implicit_gemm(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight,
                         unsigned N, int H, int W, int C, int P, int Q, int K, int R, int S, int channels, int filters,
                         int stride_h, int stride_w, int top, int left, int dilation_h, int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, channels, P, Q, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    multiply_images<Patches>(y, x, weight, windows, N * P * Q, R * S * channels, K, filters, length);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_grad_input_implicit_gemm(float* __restrict__ dx, const float* __restrict__ dy,
                                    const float* __restrict__ weight, unsigned N, int H, int W, int C, int P, int Q,
                                    int K, int R, int S, int channels, int filters, int stride_h, int stride_w, int top,
                                    int left, int dilation_h, int dilation_w, int gcd_h, int gcd_w, int remainders_w,
                                    unsigned tiles)
{
    multiply_gradient(dx, Stored{dy}, weight, N, H, W, C, P, Q, K, R, S, channels, filters, stride_h, stride_w, top,
                      left, dilation_h, dilation_w, gcd_h, gcd_w, remainders_w, tiles);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_grad_weight_implicit_gemm(float* __restrict__ dweight, const float* __restrict__ dy,
                                     const float* __restrict__ x, unsigned N, int H, int W, int C, int P, int Q, int K,
                                     int R, int S, int channels, int filters, int stride_h, int stride_w, int top,
                                     int left, int dilation_h, int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, channels, P, Q, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    multiply_images<PixelTaps>(dweight, x, dy, windows, R * S * channels, N * P * Q, K, filters, length);
}
