// im2col and the products with its columns, for convolutions over one, two and three axes (those
// that are missing have extent 1). Columns lie as (group, pixel, tap, channel of the group): a row
// is what one group of filters sees through one window, in the order of the weight.
//
//   im2col             columns = every patch of x. One thread for one value, or for four
//                      neighbouring channels.
//   y                  y (pixels, K) = columns (pixels, taps) · weight (taps, K)
//   dcolumns           dcolumns (pixels, taps) = dy (pixels, K) · weightᵀ
//   col2im             dx = for each cell the sum of its copies in dcolumns. One thread gathers one
//                      value or four, so that the order of the sum is fixed and no two threads
//                      write to one place.
//   dweight            dweight (taps, K) = columnsᵀ (taps, pixels) · dy (pixels, K)
//
// Products are those of gemm.cuh: grid x counts tiles, y parts of the sum, z groups.

// defines: SLAB_A, SLAB_B, product
#include "gemm.cuh"
// defines: sum_parts
#include "split.cuh"

// i is counted from the last digit: what it is modulo `extent`, which is then taken off.
__device__ inline unsigned digit(unsigned& i, unsigned extent)
{
    unsigned low = i % extent;
    i /= extent;
    return low;
}

extern "C" __global__ void im2col(float* __restrict__ columns, const float* __restrict__ x, unsigned size, unsigned N,
                                  int D, int H, int W, unsigned C, unsigned O, unsigned P, unsigned Q, unsigned T,
                                  unsigned R, unsigned S, unsigned channels, int stride_d, int stride_h, int stride_w,
                                  int front, int top, int left, int dilation_d, int dilation_h, int dilation_w,
                                  bool quads)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    unsigned rest = i, width = quads ? 4 : 1;
    unsigned c = digit(rest, channels / width) * width;
    int s = digit(rest, S), r = digit(rest, R), t = digit(rest, T);
    int q = digit(rest, Q), p = digit(rest, P), o = digit(rest, O);
    unsigned n = digit(rest, N), group = rest;
    int d = o * stride_d + t * dilation_d - front, h = p * stride_h + r * dilation_h - top;
    int w = q * stride_w + s * dilation_w - left;
    bool inside = d >= 0 && d < D && h >= 0 && h < H && w >= 0 && w < W;
    unsigned at = (((n * D + d) * H + h) * W + w) * C + group * channels + c;
    if (quads)
        ((float4*)columns)[i] = inside ? *(const float4*)(x + at) : make_float4(0.f, 0.f, 0.f, 0.f);
    else
        columns[i] = inside ? x[at] : 0.f;
}

// The window whose tap meets a cell, `distance` from the first cell of the first window to the cell
// less that of the tap; -1 if there is none.
__device__ inline int window_at(int distance, int stride, int windows)
{
    return distance >= 0 && distance % stride == 0 && distance / stride < windows ? distance / stride : -1;
}

extern "C" __global__ void col2im(float* __restrict__ dx, const float* __restrict__ columns, unsigned size, unsigned N,
                                  int D, int H, int W, unsigned C, int O, int P, int Q, int T, int R, int S,
                                  unsigned channels, int stride_d, int stride_h, int stride_w, int front, int top,
                                  int left, int dilation_d, int dilation_h, int dilation_w, bool quads)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    unsigned rest = i, width = quads ? 4 : 1;
    unsigned c = digit(rest, C / width) * width;
    int w = digit(rest, W), h = digit(rest, H), d = digit(rest, D);
    unsigned n = rest, group = c / channels;
    c -= group * channels;
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
    for (int t = 0; t < T; ++t) {
        int o = window_at(d + front - t * dilation_d, stride_d, O);
        if (o < 0) continue;
        for (int r = 0; r < R; ++r) {
            int p = window_at(h + top - r * dilation_h, stride_h, P);
            if (p < 0) continue;
            for (int s = 0; s < S; ++s) {
                int q = window_at(w + left - s * dilation_w, stride_w, Q);
                if (q < 0) continue;
                unsigned pixel = (((group * N + n) * O + o) * P + p) * Q + q;
                unsigned at = (((pixel * T + t) * R + r) * S + s) * channels + c;
                if (quads) {
                    float4 values = *(const float4*)(columns + at);
                    sum = make_float4(sum.x + values.x, sum.y + values.y, sum.z + values.z, sum.w + values.w);
                } else {
                    sum.x += columns[at];
                }
            }
        }
    }
    if (quads)
        ((float4*)dx)[i] = sum;
    else
        dx[i] = sum.x;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    y_of_columns(float* __restrict__ y, const float* __restrict__ columns, const float* __restrict__ weight,
                 unsigned pixels, unsigned taps, unsigned filters, unsigned K, unsigned length)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];  // one half is read while the other fills
    unsigned group = blockIdx.z;
    product<false, false>(y + blockIdx.y * (pixels * K) + group * filters, columns + group * (pixels * taps),
                          weight + group * filters, pixels, filters, taps, K, taps, K, length, false, a_slabs, b_slabs);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    dcolumns_of_dy(float* __restrict__ dcolumns, const float* __restrict__ dy, const float* __restrict__ weight,
                   unsigned pixels, unsigned taps, unsigned filters, unsigned K)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];
    unsigned group = blockIdx.z;
    product<false, true>(dcolumns + group * (pixels * taps), dy + group * filters, weight + group * filters, pixels,
                         taps, filters, taps, K, K, filters, false, a_slabs, b_slabs);
}

// With `add`, dweight already holds the sum over the images before these.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    dweight_of_columns(float* __restrict__ dweight, const float* __restrict__ columns, const float* __restrict__ dy,
                       unsigned pixels, unsigned taps, unsigned filters, unsigned K, unsigned length, bool add)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];
    unsigned group = blockIdx.z;
    product<true, false>(dweight + blockIdx.y * (taps * K) + group * filters, columns + group * (pixels * taps),
                         dy + group * filters, taps, filters, pixels, K, taps, K, length, add, a_slabs, b_slabs);
}
