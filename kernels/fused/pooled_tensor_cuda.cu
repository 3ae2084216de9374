// A convolution on tensor cores whose results are pooled by 2 × 2:
//
//   y (N P/2 Q/2, K) = f(largest of four of patches of x (N P Q, R S C) · weight (R S C, K), + b)
//
// The product is that of conv2d/tensor_cuda.cu. Windows are counted by fours (ByPool), so that the four
// results of a pooling window are neighbouring rows, which are sums of one thread: the largest is found
// in registers, and one value and the number of its cell, 5 bytes, are written where z has 16.
//
// Grid: x counts the tiles, y the parts of the sum. With several parts they are written to `parts`
// (parts, N P Q by fours, K), and `sum_parts_largest` follows; else `parts` is null.

// defines: Windows, ByPool
#include "windows.cuh"
// defines: PatchCopiesInOrder, multiply_images
#include "patch_copies.cuh"
// defines: largest_of, packed, write_largest
#include "write_largest.cuh"
// defines: SUM_THREADS
#include "split.cuh"

template <bool ALIGNED> using PooledCopies = PatchCopiesInOrder<ALIGNED, ByPool>;

// `pools_h` × `pools_w` are the pooling windows of an image.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_bias_activation_maxpool_tensor(float* __restrict__ y, unsigned char* __restrict__ index,
                                          float* __restrict__ parts, const float* __restrict__ x,
                                          const float* __restrict__ weight, const float* __restrict__ b, float alpha,
                                          unsigned N, int H, int W, int C, int pools_h, int pools_w, int K, int R,
                                          int S, int stride_h, int stride_w, int top, int left, int dilation_h,
                                          int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, C, pools_h, 4 * pools_w, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    unsigned rows = N * pools_h * 4 * pools_w;
    multiply_images<PooledCopies>(x, weight, windows, rows, R * S * C, K, K, length,
                                  [&](const float (&sums)[THREAD_M][THREAD_N], const Task& task) {
                                      if (parts)
                                          write(Rows{parts + blockIdx.y * (rows * K), (unsigned)K}, sums, task.m,
                                                task.n, rows, K, false);
                                      else
                                          write_largest(y, index, sums, b, alpha, task.m, task.n, rows, K);
                                  });
}

// y, index = the largest of four rows of the parts, added up, for `size` values of y. A thread (x) has
// four neighbouring filters; up to 64 threads (y, a power of two) share their parts. K is a multiple
// of 4.
extern "C" __global__ void sum_parts_largest(float* __restrict__ y, unsigned char* __restrict__ index,
                                             const float* __restrict__ parts, const float* __restrict__ b, float alpha,
                                             unsigned size, unsigned count, unsigned K)
{
    __shared__ float4 sums[4][SUM_THREADS];
    unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * 4, k = i % K;
    const float* from = parts + ((i - k) * 4 + k);
    float4 sum[4] = {};
    if (i < size)  // all threads must meet the barriers
#pragma unroll 2
        for (unsigned part = threadIdx.y; part < count; part += blockDim.y)
#pragma unroll
            for (int cell = 0; cell < 4; ++cell)
                sum[cell] = sum[cell] + *(const float4*)(from + (part * size * 4 + cell * K));
    unsigned at = threadIdx.y * blockDim.x + threadIdx.x;
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < 2 * half)
#pragma unroll
            for (int cell = 0; cell < 4; ++cell) sums[cell][at] = sum[cell];
        __syncthreads();  // the sums of the other half
        if (threadIdx.y < half)
#pragma unroll
            for (int cell = 0; cell < 4; ++cell) sum[cell] = sum[cell] + sums[cell][at + half * blockDim.x];
    }
    if (threadIdx.y > 0 || i >= size) return;
    float largest[4];
    unsigned cells[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        const float window[] = {(&sum[0].x)[e], (&sum[1].x)[e], (&sum[2].x)[e], (&sum[3].x)[e]};
        largest[e] = largest_of(window, __ldg(b + k + e), alpha, cells[e]);
    }
    *(float4*)(y + i) = make_float4(largest[0], largest[1], largest[2], largest[3]);
    *(unsigned*)(index + i) = packed(cells);
}
