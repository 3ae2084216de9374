// Convolution as a matrix product whose left matrix is never stored: its values are located in the
// images by index arithmetic while a slab travels to shared memory. gemm.cuh multiplies; patches.cuh
// and this file bring the sources of the three products:
//
//   y       (N P Q, K)  = patches of x (N P Q, R S C) · weight (R S C, K)
//   dx      (N H W, C)  = patches of dy (N H W, R S K) · weight turned around (R S K, C)
//   dweight (R S C, K)  = patches of x, transposed (R S C, N P Q) · dy (N P Q, K)
//
// Grid: x counts the tiles (for dx: of all remainders), y the parts of the sum, z the groups. With
// several parts the result is (parts, …), and `sum_parts` follows.

// defines: THREAD_M, SLAB_A, SLAB_B, Slab, multiply
#include "gemm.cuh"
// defines: Windows, Odometer, Remainder, Cells
#include "windows.cuh"
// defines: can_load_quads, PatchSource, multiply_images
#include "patches.cuh"
// defines: sum_parts
#include "split.cuh"

// Rows are taps (r, s, c), k counts windows (n, p, q): for dweight. A row lies at a fixed distance
// from the first cell of any window. With QUADS only the first of four rows is needed.
template <bool QUADS> struct Taps {
    using Share = Slab<TILE_M, false>;
    const float* images;
    const Windows& windows;
    Odometer pixel, step;
    static constexpr int ROWS = QUADS ? 1 : 4;
    int h[ROWS], w[ROWS];
    unsigned at[ROWS];

    __device__ Taps(const float* images, const Windows& windows, unsigned count, unsigned first_row, unsigned first_k)
        : images(images), windows(windows), pixel(first_k + Share::k(), windows.P, windows.Q),
          step(Share::STEP, windows.P, windows.Q)
    {
#pragma unroll
        for (int e = 0; e < ROWS; ++e) {
            Odometer tap(min(first_row + Share::row() + e, count - (QUADS ? 4 : 1)), windows.S, windows.channels);
            h[e] = windows.first_h + tap.high * windows.dilation_h;
            w[e] = windows.first_w + tap.middle * windows.dilation_w;
            at[e] = windows.cell(0, h[e], w[e]) + tap.low;
        }
    }

    __device__ void fetch(float4 (&quads)[Share::COUNT])
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            int dh = pixel.middle * windows.stride_h, dw = pixel.low * windows.stride_w;
            unsigned offset = windows.cell(pixel.high, dh, dw);
            if (QUADS)
                quads[i] = pixel.high < windows.N && windows.inside(h[0] + dh, w[0] + dw)
                               ? *(const float4*)(images + (at[0] + offset))
                               : make_float4(0.f, 0.f, 0.f, 0.f);
            else
#pragma unroll
                for (int e = 0; e < ROWS; ++e)
                    (&quads[i].x)[e] =
                        pixel.high < windows.N && windows.inside(h[e] + dh, w[e] + dw) ? images[at[e] + offset] : 0.f;
            pixel.add(step, windows.P, windows.Q);
        }
    }
};

// The weight as dx needs it: columns are c, k counts (r, s, k) over those taps that reach the cells
// of one remainder.
template <bool QUADS> struct TurnedWeight {
    using Share = Slab<TILE_N, true>;
    const float* weight;  // from the first filter of the group
    int taps_r, taps_s, filters;
    unsigned row_step, column_step;
    Odometer tap, step;
    unsigned at[Share::COUNT];

    // From one of the taps to the next there are row_step or column_step floats; a channel has
    // `pitch` of them.
    __device__ TurnedWeight(const float* weight, unsigned channels, unsigned pitch, int filters, int taps_r, int taps_s,
                            unsigned row_step, unsigned column_step, unsigned first_row, unsigned first_k)
        : weight(weight), taps_r(taps_r), taps_s(taps_s), filters(filters), row_step(row_step),
          column_step(column_step), tap(first_k + Share::k(), taps_s, filters), step(TILE_K, taps_s, filters)
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i)
            at[i] = min(first_row + Share::row() + i * Share::STEP, channels - 1) * pitch;
    }

    __device__ void fetch(float4 (&quads)[Share::COUNT])
    {
        if (QUADS) {
            unsigned offset = tap.high * row_step + tap.middle * column_step + tap.low;
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i)
                quads[i] =
                    tap.high < taps_r ? *(const float4*)(weight + (at[i] + offset)) : make_float4(0.f, 0.f, 0.f, 0.f);
        } else {
            Odometer one = tap;
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                unsigned offset = one.high * row_step + one.middle * column_step + one.low;
#pragma unroll
                for (int i = 0; i < Share::COUNT; ++i)
                    (&quads[i].x)[e] = one.high < taps_r ? weight[at[i] + offset] : 0.f;
                one.next(taps_s, filters);
            }
        }
        tap.add(step, taps_s, filters);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_implicit_gemm(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight,
                         unsigned N, int H, int W, int C, int P, int Q, int K, int R, int S, int channels, int filters,
                         int stride_h, int stride_w, int top, int left, int dilation_h, int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, channels, P, Q, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    multiply_images<PatchSource>(y, x, weight, windows, N * P * Q, R * S * channels, K, filters, length);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_grad_input_implicit_gemm(float* __restrict__ dx, const float* __restrict__ dy,
                                    const float* __restrict__ weight, unsigned N, int H, int W, int C, int P, int Q,
                                    int K, int R, int S, int channels, int filters, int stride_h, int stride_w, int top,
                                    int left, int dilation_h, int dilation_w, int gcd_h, int gcd_w, int remainders_w,
                                    unsigned tiles, unsigned length)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];
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
    if (can_load_quads(dy, K, filters) && can_load_quads(weight, K, filters)) {
        PatchSource<true> patches(dy, windows, cells, task.m, task.k);
        TurnedWeight<true> turned(weight, channels, K, filters, taps_r, taps_s, row_step, column_step, task.n, task.k);
        multiply(sums, patches, turned, task.slabs, a_slabs, b_slabs);
    } else {
        PatchSource<false> patches(dy, windows, cells, task.m, task.k);
        TurnedWeight<false> turned(weight, channels, K, filters, taps_r, taps_s, row_step, column_step, task.n, task.k);
        multiply(sums, patches, turned, task.slabs, a_slabs, b_slabs);
    }
    if (slice_of_thread() > 0) return;
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
    conv2d_grad_weight_implicit_gemm(float* __restrict__ dweight, const float* __restrict__ dy,
                                     const float* __restrict__ x, unsigned N, int H, int W, int C, int P, int Q, int K,
                                     int R, int S, int channels, int filters, int stride_h, int stride_w, int top,
                                     int left, int dilation_h, int dilation_w, unsigned length)
{
    Windows windows{N, H, W, C, channels, P, Q, R, S, -top, -left, stride_h, stride_w, dilation_h, dilation_w};
    multiply_images<Taps>(dweight, x, dy, windows, R * S * channels, N * P * Q, K, filters, length);
}
