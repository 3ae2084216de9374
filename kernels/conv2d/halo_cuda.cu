// Convolution at stride 1 on tensor cores, with each cell in shared memory once:
//
//   y  (N P Q, K) = patches of x (N P Q, R S C) · weight (R S C, K)
//   dx (N H W, C) = patches of dy (N H W, R S K) · weight turned around (R S K, C)
//
// halo.cuh multiplies. dx is a convolution of dy, whose padding is what the filter reaches beyond that of x.
//
// Grid: the tiles, along the columns first. Dynamic shared memory: `halo_rows` rows of cells.

// defines: Windows, ByImage
#include "windows.cuh"
// defines: multiply_tile
#include "halo.cuh"
// defines: Rows, write
#include "tile.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_halo(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight, unsigned N, int H,
                int W, int C, int P, int Q, int K, int R, int S, int top, int left, int dilation_h, int dilation_w,
                unsigned of_tile, int halo_rows)
{
    Windows windows{N, H, W, C, C, P, Q, R, S, -top, -left, 1, 1, dilation_h, dilation_w};
    multiply_tile<ByImage, false>(x, weight, windows, C, K, of_tile, halo_rows,
                                  [&](const float (&sums)[THREAD_M][THREAD_N], unsigned m, unsigned n, unsigned end) {
                                      write(Rows{y, (unsigned)K}, sums, m, n, end, K, false);
                                  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_grad_input_halo(float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ weight,
                           unsigned N, int H, int W, int C, int P, int Q, int K, int R, int S, int top, int left,
                           int dilation_h, int dilation_w, unsigned of_tile, int halo_rows)
{
    int first_h = top - (R - 1) * dilation_h, first_w = left - (S - 1) * dilation_w;
    Windows windows{N, P, Q, K, K, H, W, R, S, first_h, first_w, 1, 1, dilation_h, dilation_w};
    multiply_tile<ByImage, true>(dy, weight, windows, C, K, of_tile, halo_rows,
                                 [&](const float (&sums)[THREAD_M][THREAD_N], unsigned m, unsigned n, unsigned end) {
                                     write(Rows{dx, (unsigned)C}, sums, m, n, end, C, false);
                                 });
}
