// A product whose left matrix is never stored: its values are located in images by index arithmetic
// while a slab travels to shared memory. For gemm.cuh: the source of patches, and the tile of a
// product of images with a matrix.
//
// There is no division in a main loop. A thread computes once where its rows lie in the images, and
// counts its place along the sum, (r, s, c) or (n, p, q), with digits of mixed radix, as an
// odometer does. A quad of channels lies within one pixel if the channels of a group are a multiple
// of 4: then it is one load of 128 bits.

// defines: THREAD_M, SLAB_A, SLAB_B, Slab, EITHER, Matrix, multiply
#include "gemm.cuh"
// defines: Windows, Odometer, Place, ByImage
#include "windows.cuh"

__device__ inline bool can_load_quads(const float* values, unsigned pitch, unsigned width)
{
    return (pitch | width) % 4 == 0 && (size_t)values % 16 == 0;
}

// A value, or 0. The load does not depend on the condition, its address does: a branch for each load
// costs more.
__device__ inline float load_if(bool inside, const float* values, unsigned at)
{
    float value = values[inside ? at : 0];
    return inside ? value : 0.f;
}

// Rows are windows (n, p, q), k counts taps (r, s, c): for y and for dx. QUADS: four channels are
// one load.
template <bool QUADS, class Order = ByImage> struct PatchSource {
    using Share = Slab<TILE_M, true>;
    const float* images;  // from the first channel of the group
    const Windows& windows;
    Odometer tap, step;
    int h[Share::COUNT], w[Share::COUNT];
    unsigned at[Share::COUNT];

    __device__ PatchSource(const float* images, const Windows& windows, unsigned count, unsigned first_row,
                           unsigned first_k)
        : images(images), windows(windows), tap(first_k + Share::k(), windows.S, windows.channels),
          step(TILE_K, windows.S, windows.channels)
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            Odometer pixel(min(first_row + Share::row() + i * Share::STEP, count - 1), windows.P, windows.Q);
            Place window = Order::of(pixel);
            h[i] = windows.first_h + window.row * windows.stride_h;
            w[i] = windows.first_w + window.column * windows.stride_w;
            at[i] = windows.cell(window.image, h[i], w[i]);
        }
    }

    __device__ void fetch(float4 (&quads)[Share::COUNT])
    {
        if (QUADS) {
            int dh = tap.high * windows.dilation_h, dw = tap.middle * windows.dilation_w;
            unsigned offset = windows.cell(0, dh, dw) + tap.low;
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i)
                quads[i] = tap.high < windows.R && windows.inside(h[i] + dh, w[i] + dw)
                               ? *(const float4*)(images + (at[i] + offset))
                               : make_float4(0.f, 0.f, 0.f, 0.f);
        } else {
            Odometer one = tap;
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                int dh = one.high * windows.dilation_h, dw = one.middle * windows.dilation_w;
                unsigned offset = windows.cell(0, dh, dw) + one.low;
#pragma unroll
                for (int i = 0; i < Share::COUNT; ++i)
                    (&quads[i].x)[e] =
                        load_if(one.high < windows.R && windows.inside(h[i] + dh, w[i] + dw), images, at[i] + offset);
                one.next(windows.S, windows.channels);
            }
        }
        tap.add(step, windows.S, windows.channels);
    }
};

// Rows are taps (r, s, c), k counts windows (n, p, q): for dweight. A row lies at a fixed distance
// from the first cell of any window. With QUADS only the first of four rows is needed.
template <bool QUADS, class Order = ByImage> struct Taps {
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
            Place window = Order::of(pixel);
            int dh = window.row * windows.stride_h, dw = window.column * windows.stride_w;
            unsigned offset = windows.cell(window.image, dh, dw);
            if (QUADS)
                quads[i] = window.image < int(windows.N) && windows.inside(h[0] + dh, w[0] + dw)
                               ? *(const float4*)(images + (at[0] + offset))
                               : make_float4(0.f, 0.f, 0.f, 0.f);
            else
#pragma unroll
                for (int e = 0; e < ROWS; ++e)
                    (&quads[i].x)[e] = load_if(window.image < int(windows.N) && windows.inside(h[e] + dh, w[e] + dw),
                                               images, at[e] + offset);
            pixel.add(step, windows.P, windows.Q);
        }
    }
};

// The sources in the order of the images. (Not every compiler takes a template with defaults for one
// without.)
template <bool QUADS> using Patches = PatchSource<QUADS>;
template <bool QUADS> using PixelTaps = Taps<QUADS>;

// The block's tile of result (rows, K) = left (rows, terms) · right (terms, K), for its group and
// part of the sum, where Source locates the values of `left` in the images x.
template <template <bool> class Source, class Finish = AsIs>
__device__ __forceinline__ void multiply_images(float* result, const float* x, const float* right,
                                                const Windows& windows, unsigned rows, unsigned terms, unsigned K,
                                                unsigned filters, unsigned length, Finish finish = {})
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];  // one half is read while the other fills
    unsigned group = blockIdx.z;
    Task task(blockIdx.x, filters, terms, length);
    Matrix<TILE_N, false, EITHER> matrix(right + group * filters, K, filters, task.n, task.k, task.end);
    float sums[THREAD_M][THREAD_N];
    x += group * windows.channels;
    if (can_load_quads(x, windows.C, windows.channels)) {
        Source<true> left(x, windows, rows, task.m, task.k);
        multiply(sums, left, matrix, task.slabs, a_slabs, b_slabs);
    } else {
        Source<false> left(x, windows, rows, task.m, task.k);
        multiply(sums, left, matrix, task.slabs, a_slabs, b_slabs);
    }
    if (slice_of_thread() > 0) return;
    write(Rows{result + blockIdx.y * (rows * K) + group * filters, K}, sums, task.m, task.n, rows, filters, false,
          finish);
}
