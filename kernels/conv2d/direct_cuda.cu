// Direct convolution of images: the definition, in registers and without shared memory. The
// baseline to beat.
//
//     y[n, p, q, k]       = Σ x[n, h, w, c] · weight[r, s, c, k]     over r, s, c
//     dx[n, h, w, c]      = Σ dy[n, p, q, k] · weight[r, s, c, k]    over r, s, k
//     dweight[r, s, c, k] = Σ dy[n, p, q, k] · x[n, h, w, c]         over n, p, q
//
//     where  h = p · stride_h + r · dilation_h - top,  w = q · stride_w + s · dilation_w - left
//
// Threads: 4 windows × VALUES filters of y, 4 cells × VALUES channels of dx, 4 taps × VALUES filters
// of dweight. The grid is one-dimensional and covers them, those of dweight once for each slice of
// the sum. The device code is in include/direct.cuh: it has three axes, of which images lack the
// first.

// defines: Axis, single, direct_forward, direct_grad_input, direct_grad_weight, exchange_filters, join_slices
#include "direct.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 6)
    conv2d_direct(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight, int N, int C,
                  int K, int groups, int H, int R, int P, int stride_h, int dilation_h, int top, int W, int S, int Q,
                  int stride_w, int dilation_w, int left)
{
    Axis rows = {H, R, P, stride_h, dilation_h, top}, columns = {W, S, Q, stride_w, dilation_w, left};
    direct_forward(y, x, weight, {N, C, K, groups, single(), rows, columns});
}

extern "C" __global__ void __launch_bounds__(THREADS, 6)
    conv2d_grad_input_direct(float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ exchanged,
                             int N, int C, int K, int groups, int H, int R, int P, int stride_h, int dilation_h,
                             int top, int W, int S, int Q, int stride_w, int dilation_w, int left)
{
    Axis rows = {H, R, P, stride_h, dilation_h, top}, columns = {W, S, Q, stride_w, dilation_w, left};
    direct_grad_input(dx, dy, exchanged, {N, C, K, groups, single(), rows, columns});
}

extern "C" __global__ void __launch_bounds__(THREADS, 6)
    conv2d_grad_weight_direct(float* __restrict__ partial, const float* __restrict__ dy, const float* __restrict__ x,
                              int slices, int N, int C, int K, int groups, int H, int R, int P, int stride_h,
                              int dilation_h, int top, int W, int S, int Q, int stride_w, int dilation_w, int left)
{
    Axis rows = {H, R, P, stride_h, dilation_h, top}, columns = {W, S, Q, stride_w, dilation_w, left};
    direct_grad_weight(partial, dy, x, {N, C, K, groups, single(), rows, columns}, slices);
}
