// Direct convolution of volumes: the definition, in registers and without shared memory. The
// baseline to beat.
//
//     y[n, o, p, q, k]       = Σ x[n, d, h, w, c] · weight[t, r, s, c, k]     over t, r, s, c
//     dx[n, d, h, w, c]      = Σ dy[n, o, p, q, k] · weight[t, r, s, c, k]    over t, r, s, k
//     dweight[t, r, s, c, k] = Σ dy[n, o, p, q, k] · x[n, d, h, w, c]         over n, o, p, q
//
//     where  d = o · stride_d + t · dilation_d - front,  and so on for h and w
//
// Threads: 4 windows × VALUES filters of y, 4 cells × VALUES channels of dx, 4 taps × VALUES
// filters of dweight. The grid is one-dimensional and covers them, those of dweight once for each
// slice of the sum. The device code is in include/direct.cuh, which knows three axes.

// defines: Axis, direct_forward, direct_grad_input, direct_grad_weight, exchange_filters, join_slices
#include "direct.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 6)
    conv3d_direct(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight, int N, int C,
                  int K, int groups, int D, int T, int O, int stride_d, int dilation_d, int front, int H, int R, int P,
                  int stride_h, int dilation_h, int top, int W, int S, int Q, int stride_w, int dilation_w, int left)
{
    Axis planes = {D, T, O, stride_d, dilation_d, front};
    Axis rows = {H, R, P, stride_h, dilation_h, top}, columns = {W, S, Q, stride_w, dilation_w, left};
    direct_forward(y, x, weight, {N, C, K, groups, planes, rows, columns});
}

extern "C" __global__ void __launch_bounds__(THREADS, 6)
    conv3d_grad_input_direct(float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ exchanged,
                             int N, int C, int K, int groups, int D, int T, int O, int stride_d, int dilation_d,
                             int front, int H, int R, int P, int stride_h, int dilation_h, int top, int W, int S, int Q,
                             int stride_w, int dilation_w, int left)
{
    Axis planes = {D, T, O, stride_d, dilation_d, front};
    Axis rows = {H, R, P, stride_h, dilation_h, top}, columns = {W, S, Q, stride_w, dilation_w, left};
    direct_grad_input(dx, dy, exchanged, {N, C, K, groups, planes, rows, columns});
}

extern "C" __global__ void __launch_bounds__(THREADS, 6)
    conv3d_grad_weight_direct(float* __restrict__ partial, const float* __restrict__ dy, const float* __restrict__ x,
                              int slices, int N, int C, int K, int groups, int D, int T, int O, int stride_d,
                              int dilation_d, int front, int H, int R, int P, int stride_h, int dilation_h, int top,
                              int W, int S, int Q, int stride_w, int dilation_w, int left)
{
    Axis planes = {D, T, O, stride_d, dilation_d, front};
    Axis rows = {H, R, P, stride_h, dilation_h, top}, columns = {W, S, Q, stride_w, dilation_w, left};
    direct_grad_weight(partial, dy, x, {N, C, K, groups, planes, rows, columns}, slices);
}
