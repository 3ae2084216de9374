// Implicit GEMM of a convolution whose results are pooled by 2 × 2, and its two gradients:
//
//   y            (N P/2 Q/2, K) = f(largest of four of patches of x (N P Q, R S C) · weight (R S C, K), + b)
//   dx           (H W N, C)     = patches of dz (H W N, R S K) · weight turned around (R S K, C)
//   dweight, db  (R S C + 1, K) = patches of x, transposed, and a row of ones (…, N P Q) · dz (N P Q, K)
//
// Windows are counted by fours (ByPool), so that the four results of a pooling window are sums of one
// thread: the largest is found in registers, and one value and the number of its cell, 5 bytes, are
// written where z has 16. dz, which is dy at those cells and 0 elsewhere, is never stored either: what
// loads it for a product picks its values by the number of the cell. Nor has db a pass over dz: the
// threads that load dz for dweight add up what they load.
//
// Grid: x counts the tiles (for dx: of all remainders), y the parts of the sum of a gradient. With
// several parts the result is (parts, …), and `sum_parts` or `sum_parts_of_both` follows.

// defines: THREAD_M, SLAB_A, SLAB_B, Slab, multiply
#include "gemm.cuh"
// defines: Windows, ByPool
#include "windows.cuh"
// defines: can_load_quads, PatchSource, Taps
#include "patches.cuh"
// defines: NO_CELL, unpooled
#include "unpool.cuh"
// defines: write_column_totals
#include "slab_totals.cuh"
// defines: Unpooled, multiply_gradient
#include "input_gradient.cuh"
// defines: write_largest
#include "write_largest.cuh"
// defines: sum_parts
#include "split.cuh"
// defines: sum_parts_of_both
#include "parts_of_both.cuh"

// `pools_h` × `pools_w` are the pooling windows of an image.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_bias_activation_maxpool(float* __restrict__ y, unsigned char* __restrict__ index,
                                   const float* __restrict__ x, const float* __restrict__ weight,
                                   const float* __restrict__ b, float alpha, unsigned N, int H, int W, int C,
                                   int pools_h, int pools_w, int K, int R, int S, int stride_h, int stride_w, int top,
                                   int left, int dilation_h, int dilation_w, unsigned length)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];  // one half is read while the other fills
    Windows windows{N, H, W, C, C, pools_h, 4 * pools_w, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    unsigned rows = N * pools_h * 4 * pools_w;
    Task task(blockIdx.x, K, R * S * C, length);
    Matrix<TILE_N, false, EITHER> matrix(weight, K, K, task.n, task.k, task.end);
    float sums[THREAD_M][THREAD_N];
    if (can_load_quads(x, C, C)) {
        PatchSource<true, ByPool> patches(x, windows, rows, task.m, task.k);
        multiply(sums, patches, matrix, task.slabs, a_slabs, b_slabs);
    } else {
        PatchSource<false, ByPool> patches(x, windows, rows, task.m, task.k);
        multiply(sums, patches, matrix, task.slabs, a_slabs, b_slabs);
    }
    if (slice_of_thread() == 0) write_largest(y, index, sums, b, alpha, task.m, task.n, rows, K);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_maxpool_grad_input(float* __restrict__ dx, const float* __restrict__ dy,
                              const unsigned char* __restrict__ index, const float* __restrict__ weight, unsigned N,
                              int H, int W, int C, int pools_h, int pools_w, int K, int R, int S, int stride_h,
                              int stride_w, int top, int left, int dilation_h, int dilation_w, int gcd_h, int gcd_w,
                              int remainders_w, unsigned tiles)
{
    multiply_gradient(dx, Unpooled{dy, index}, weight, N, H, W, C, 2 * pools_h, 2 * pools_w, K, R, S, C, K, stride_h,
                      stride_w, top, left, dilation_h, dilation_w, gcd_h, gcd_w, remainders_w, tiles);
}

// dz as the right matrix: columns are filters, k counts windows. Adds up the columns as they pass by.
template <bool QUADS> struct UnpooledColumns {
    using Share = Slab<TILE_N, false>;
    const float* dy;
    const unsigned char* index;
    unsigned K, column, k, end;
    float4 total;

    __device__ UnpooledColumns(const float* dy, const unsigned char* index, unsigned K, unsigned first_column,
                               unsigned first_k, unsigned end)
        : dy(dy), index(index), K(K), column(first_column + Share::row()), k(first_k + Share::k()), end(end),
          total(make_float4(0.f, 0.f, 0.f, 0.f))
    {
    }

    __device__ void fetch(float4 (&quads)[Share::COUNT])
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            unsigned window = k + i * Share::STEP, first = window / 4 * K;
            int cell = window < end ? int(window % 4) : NO_CELL;
            if (window >= end) first = 0;
            if (QUADS) {
                first += min(column, K - 4);
                quads[i] = unpooled(dy + first, index + first, cell);
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    unsigned at = first + min(column + e, K - 1);
                    (&quads[i].x)[e] = unpooled(dy[at], index[at], cell);
                }
            }
            total = total + quads[i];
        }
        k += TILE_K;
    }
};

template <bool QUADS>
__device__ __forceinline__ void multiply_weight_gradient(float* dweight, float* db, const float* dy,
                                                         const unsigned char* index, const float* x,
                                                         const Windows& windows, unsigned K, const Task& task,
                                                         float* a_slabs, float* b_slabs)
{
    unsigned taps = windows.R * windows.S * windows.C;
    UnpooledColumns<QUADS> columns(dy, index, K, task.n, task.k, task.end);
    float sums[THREAD_M][THREAD_N];
    if (can_load_quads(x, windows.C, windows.C)) {
        Taps<true, ByPool> left(x, windows, taps, task.m, task.k);
        multiply(sums, left, columns, task.slabs, a_slabs, b_slabs);
    } else {
        Taps<false, ByPool> left(x, windows, taps, task.m, task.k);
        multiply(sums, left, columns, task.slabs, a_slabs, b_slabs);
    }
    if (task.m == 0) write_column_totals(db, columns.total, b_slabs, task.n, K);
    if (slice_of_thread() == 0) write(Rows{dweight, K}, sums, task.m, task.n, taps, K, false);
}

// Part p of dweight begins at p · `pitch`, and so does that of db.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_maxpool_grad_weight(float* __restrict__ dweight, float* __restrict__ db, const float* __restrict__ dy,
                               const unsigned char* __restrict__ index, const float* __restrict__ x, unsigned N, int H,
                               int W, int C, int pools_h, int pools_w, int K, int R, int S, int stride_h, int stride_w,
                               int top, int left, int dilation_h, int dilation_w, unsigned length, unsigned pitch)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];  // one half is read while the other fills
    Windows windows{N, H, W, C, C, pools_h, 4 * pools_w, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    Task task(blockIdx.x, K, N * pools_h * 4 * pools_w, length);
    dweight += blockIdx.y * pitch, db += blockIdx.y * pitch;
    if (can_load_quads(dy, K, K) && (size_t)index % 4 == 0)
        multiply_weight_gradient<true>(dweight, db, dy, index, x, windows, K, task, a_slabs, b_slabs);
    else
        multiply_weight_gradient<false>(dweight, db, dy, index, x, windows, K, task, a_slabs, b_slabs);
}
