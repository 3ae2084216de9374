// Convolution on tensor cores with the error of float32: the products of implicit_gemm_cuda.cu,
//
//   y       (N P Q, K)  = patches of x (N P Q, R S C) · weight (R S C, K)
//   dx      (N H W, C)  = patches of dy (N H W, R S K) · weight turned around (R S K, C)
//   dweight (R S C, K)  = patches of x, transposed (R S C, N P Q) · dy (N P Q, K)
//
// multiplied by tensor.cuh. patch_copies.cuh and this file bring the sources, which copy values from
// images to shared memory.
//
// Grid: x counts the tiles (for dx: of all remainders), y the parts of the sum, z the groups. With
// several parts the result is (parts, …), and `sum_parts` follows.

// defines: SLAB_A, SLAB_B, multiply, aligned
#include "tensor.cuh"
// defines: copy_quad
#include "copies.cuh"
// defines: Quads
#include "slabs.cuh"
// defines: compute
#include "finite.cuh"
// defines: Windows, Odometer, Remainder, Cells
#include "windows.cuh"
// defines: PatchCopies, multiply_images
#include "patch_copies.cuh"
// defines: sum_parts
#include "split.cuh"

// Rows are taps (r, s, c), k counts windows (n, p, q): for dweight. A row lies at a fixed distance
// from the first cell of any window.
template <bool ALIGNED> struct TapCopies {
    using Share = Quads<TILE_M, false>;
    const float* images;
    const Windows& windows;
    Odometer pixel, step;
    int to, h[Share::ROWS], w[Share::ROWS];
    unsigned at[Share::ROWS];

    __device__ TapCopies(const float* images, const Windows& windows, unsigned count, unsigned first_row,
                         unsigned first_k)
        : images(images), windows(windows), pixel(first_k + Share::k(), windows.P, windows.Q),
          step(Share::STEP, windows.P, windows.Q), to(Share::place(Share::row(), Share::k()))
    {
#pragma unroll
        for (int i = 0; i < Share::ROWS; ++i) {
            Odometer tap(min(first_row + Share::row() + Share::rows_beyond(i), count - 4), windows.S, windows.channels);
            h[i] = windows.first_h + tap.high * windows.dilation_h;
            w[i] = windows.first_w + tap.middle * windows.dilation_w;
            at[i] = windows.cell(0, h[i], w[i]) + tap.low;
        }
    }

    __device__ void copy(float* slab)
    {
#pragma unroll
        for (int first = 0; first < Share::COUNT; first += Share::ROWS) {
            int dh = pixel.middle * windows.stride_h, dw = pixel.low * windows.stride_w;
            unsigned offset = windows.cell(pixel.high, dh, dw);
            bool within = pixel.high < windows.N;
#pragma unroll
            for (int i = 0; i < Share::ROWS; ++i)
                copy_quad<ALIGNED>(slab + to + Share::apart(first + i), images + (at[i] + offset),
                                   within && windows.inside(h[i] + dh, w[i] + dw));
            pixel.add(step, windows.P, windows.Q);
        }
    }
};

// The weight as dx needs it: columns are c, k counts (r, s, k) over those taps that reach the cells
// of one remainder. It is copied together with patches, whose place along the sum is also its own.
template <bool ALIGNED> struct TurnedCopies {
    using Share = Quads<TILE_N, true>;
    const PatchCopies<ALIGNED>& patches;
    const float* weight;  // from the first of the taps
    unsigned row_step, column_step;
    int to;
    unsigned at[Share::COUNT];

    // From one of the taps to the next there are row_step or column_step floats; a channel has
    // `pitch` of them.
    __device__ TurnedCopies(const PatchCopies<ALIGNED>& patches, const float* weight, unsigned channels, unsigned pitch,
                            unsigned row_step, unsigned column_step, unsigned first_row)
        : patches(patches), weight(weight), row_step(row_step), column_step(column_step),
          to(Share::place(Share::row(), Share::k()))
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i)
            at[i] = min(first_row + Share::row() + Share::rows_beyond(i), channels - 1) * pitch;
    }

    __device__ void copy(float* slab)
    {
        const Odometer& tap = patches.tap;
        unsigned offset = tap.high * row_step + tap.middle * column_step + tap.low;
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i)
            copy_quad<ALIGNED>(slab + to + Share::apart(i), weight + (at[i] + offset), tap.high < patches.rows);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_tensor(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight, unsigned N,
                  int H, int W, int C, int P, int Q, int K, int R, int S, int channels, int filters, int stride_h,
                  int stride_w, int top, int left, int dilation_h, int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, channels, P, Q, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    multiply_images<PatchCopies>(y, x, weight, windows, N * P * Q, R * S * channels, K, filters, length);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_grad_input_tensor(float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ weight,
                             unsigned N, int H, int W, int C, int P, int Q, int K, int R, int S, int channels,
                             int filters, int stride_h, int stride_w, int top, int left, int dilation_h, int dilation_w,
                             int gcd_h, int gcd_w, int remainders_w, unsigned tiles, unsigned length)
{
    __align__(16) __shared__ float a_slabs[STAGES * SLAB_A], b_slabs[STAGES * SLAB_B];
    int step_h = stride_h / gcd_h, step_w = stride_w / gcd_w;
    int h = blockIdx.x / tiles / remainders_w, w = blockIdx.x / tiles % remainders_w;
    Remainder rows(h, H, R, stride_h, top, dilation_h, step_h), columns(w, W, S, stride_w, left, dilation_w, step_w);
    unsigned cells = N * rows.cells * columns.cells, taps = rows.taps * columns.taps * filters, group = blockIdx.z;
    Task task(blockIdx.x % tiles, channels, taps, length);
    if (task.m >= cells) return;  // `tiles` are those of the remainder with the most cells; the whole block returns

    int taps_r = columns.taps ? rows.taps : 0, taps_s = max(columns.taps, 1);
    Windows windows{N,
                    P,
                    Q,
                    K,
                    filters,
                    rows.cells,
                    columns.cells,
                    taps_r,
                    taps_s,
                    rows.origin,
                    columns.origin,
                    1,
                    1,
                    -dilation_h / gcd_h,
                    -dilation_w / gcd_w};
    unsigned of_a_column = channels * K, of_a_row = S * of_a_column;
    unsigned row_step = step_h * of_a_row, column_step = step_w * of_a_column;
    dy += group * filters;
    weight += rows.first * of_a_row + columns.first * of_a_column + group * filters;
    float sums[THREAD_M][THREAD_N];
    compute(
        sums, aligned(dy, weight),
        [&] {
            PatchCopies<true> patches(dy, windows, cells, task.m, task.k);
            TurnedCopies<true> turned(patches, weight, channels, K, row_step, column_step, task.n);
            multiply<false>(sums, patches, turned, task.slabs, a_slabs, b_slabs);
        },
        [&] {
            PatchCopies<false> patches(dy, windows, cells, task.m, task.k);
            TurnedCopies<false> turned(patches, weight, channels, K, row_step, column_step, task.n);
            multiply<true>(sums, patches, turned, task.slabs, a_slabs, b_slabs);
        });
    Cells result{dx + blockIdx.y * (N * H * W * C) + group * channels,
                 (unsigned)H,
                 (unsigned)W,
                 (unsigned)C,
                 (unsigned)rows.cells,
                 (unsigned)columns.cells,
                 (unsigned)h,
                 (unsigned)w,
                 (unsigned)stride_h,
                 (unsigned)stride_w};
    write(result, sums, task.m, task.n, cells, channels, false);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_grad_weight_tensor(float* __restrict__ dweight, const float* __restrict__ dy, const float* __restrict__ x,
                              unsigned N, int H, int W, int C, int P, int Q, int K, int R, int S, int channels,
                              int filters, int stride_h, int stride_w, int top, int left, int dilation_h,
                              int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, channels, P, Q, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    multiply_images<TapCopies>(dweight, x, dy, windows, R * S * channels, N * P * Q, K, filters, length);
}
