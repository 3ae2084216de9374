// Direct convolution of sequences: the definition, in registers and without shared memory. The baseline to beat.
//
//     y[n, q, k]       = Σ x[n, w, c] · weight[s, c, k]     over s, c       thread: 4 windows × VALUES filters
//     dx[n, w, c]      = Σ dy[n, q, k] · weight[s, c, k]    over s, k       thread: 4 cells × VALUES channels
//     dweight[s, c, k] = Σ dy[n, q, k] · x[n, w, c]         over n, q       thread: 4 taps × VALUES filters
//
//     where  w = q · stride + s · dilation - left
//
// The grid is one-dimensional and covers the threads above, those of dweight once for each slice of the sum.
// The device code stands in include/direct.cuh: it knows three axes, of which sequences lack the first two.

#include "direct.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 6)
conv1d_direct(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight,
              int N, int C, int K, int groups, int W, int S, int Q, int stride, int dilation, int left)
{
    Axis steps = {W, S, Q, stride, dilation, left};
    direct_forward(y, x, weight, {N, C, K, groups, single(), single(), steps});
}

extern "C" __global__ void __launch_bounds__(THREADS, 6)
conv1d_grad_input_direct(float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ exchanged,
                         int N, int C, int K, int groups, int W, int S, int Q, int stride, int dilation, int left)
{
    Axis steps = {W, S, Q, stride, dilation, left};
    direct_grad_input(dx, dy, exchanged, {N, C, K, groups, single(), single(), steps});
}

extern "C" __global__ void __launch_bounds__(THREADS, 6)
conv1d_grad_weight_direct(float* __restrict__ partial, const float* __restrict__ dy, const float* __restrict__ x,
                          int slices, int N, int C, int K, int groups,
                          int W, int S, int Q, int stride, int dilation, int left)
{
    Axis steps = {W, S, Q, stride, dilation, left};
    direct_grad_weight(partial, dy, x, {N, C, K, groups, single(), single(), steps}, slices);
}
