// A convolution at stride 1 on tensor cores, with each cell in shared memory once (halo.cuh), that finishes
// its sums:
//
//   y (N P Q, K)          = f(patches of x (N P Q, R S C) · weight (R S C, K) + b)
//   y (N P/2 Q/2, K)      = f(largest of four of the same, + b), and the number of its cell
//
// Grid: the tiles, along the columns first. Dynamic shared memory: `halo_rows` rows of cells.

// defines: Windows, ByImage
#include "windows.cuh"
// defines: multiply_tile
#include "halo.cuh"
// defines: Rows, write
#include "tile.cuh"
// defines: BiasActivation
#include "bias_activation.cuh"
// defines: write_largest
#include "write_largest.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_bias_activation_halo(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight,
                                const float* __restrict__ b, float alpha, unsigned N, int H, int W, int C, int P, int Q,
                                int K, int R, int S, int top, int left, int dilation_h, int dilation_w,
                                unsigned of_tile, int halo_rows)
{
    Windows windows{N, H, W, C, C, P, Q, R, S, -top, -left, 1, 1, dilation_h, dilation_w};
    multiply_tile<ByImage, false>(x, weight, windows, C, K, of_tile, halo_rows,
                                  [&](const float (&sums)[THREAD_M][THREAD_N], unsigned m, unsigned n, unsigned end) {
                                      write(Rows{y, (unsigned)K}, sums, m, n, end, K, false, BiasActivation{b, alpha});
                                  });
}

// `pools_h` × `pools_w` are the pooling windows of an image.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_bias_activation_maxpool_halo(float* __restrict__ y, unsigned char* __restrict__ index,
                                        const float* __restrict__ x, const float* __restrict__ weight,
                                        const float* __restrict__ b, float alpha, unsigned N, int H, int W, int C,
                                        int pools_h, int pools_w, int K, int R, int S, int top, int left,
                                        int dilation_h, int dilation_w, unsigned of_tile, int halo_rows)
{
    Windows windows{N, H, W, C, C, pools_h, 4 * pools_w, R, S, -top, -left, 1, 1, dilation_h, dilation_w};
    multiply_tile<ByPool, false>(x, weight, windows, C, K, of_tile, halo_rows,
                                 [&](const float (&sums)[THREAD_M][THREAD_N], unsigned m, unsigned n, unsigned end) {
                                     write_largest(y, index, sums, b, alpha, m, n, end, K);
                                 });
}
