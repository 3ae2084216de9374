// A product on tensor cores whose left matrix is never stored: its values are copied from the images
// to shared memory. For tensor.cuh: the source of patches, and the tile of a product of images with
// a matrix. Channels and filters of a group are multiples of 4, so that a quad of them lies within
// one pixel or one tap.

// defines: SLAB_A, SLAB_B, MatrixCopies, multiply, aligned
#include "tensor.cuh"
// defines: copy_quad
#include "copies.cuh"
// defines: Quads
#include "slabs.cuh"
// defines: compute
#include "finite.cuh"
// defines: Windows, Odometer, Place, ByImage
#include "windows.cuh"

// Rows are windows (n, p, q) in some order, k counts taps (r, s, c): for y and for dx. Which taps of a window lie
// in the image is worked out once: bit r of `inside` says so of the tap's row, bit 16 + s of its
// column. A filter has at most 15 × 16 taps, so bits R … 15 are 0, and with them all k beyond the
// last tap.
template <bool ALIGNED, class Order> struct PatchCopiesInOrder {
    using Share = Quads<TILE_M, true>;
    const float* images;  // from the first channel of the group
    int rows, columns, channels;
    unsigned row_step, column_step;
    Odometer tap, step;
    int to;
    unsigned at[Share::COUNT], inside[Share::COUNT];

    __device__ PatchCopiesInOrder(const float* images, const Windows& windows, unsigned count, unsigned first_row,
                                  unsigned first_k)
        : images(images), rows(windows.R), columns(windows.S), channels(windows.channels),
          row_step(windows.cell(0, windows.dilation_h, 0)), column_step(windows.cell(0, 0, windows.dilation_w)),
          tap(first_k + Share::k(), columns, channels), step(TILE_K, columns, channels),
          to(Share::place(Share::row(), Share::k()))
    {
        int h[Share::COUNT], w[Share::COUNT];
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            Odometer pixel(min(first_row + Share::row() + Share::rows_beyond(i), count - 1), windows.P, windows.Q);
            Place window = Order::of(pixel);
            h[i] = windows.first_h + window.row * windows.stride_h;
            w[i] = windows.first_w + window.column * windows.stride_w;
            at[i] = windows.cell(window.image, h[i], w[i]);
            inside[i] = 0;
        }
#pragma unroll 1
        for (int r = 0; r < rows; ++r)
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i)
                inside[i] |= windows.inside(h[i] + r * windows.dilation_h, 0) ? 1u << r : 0;
#pragma unroll 1
        for (int s = 0; s < columns; ++s)
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i)
                inside[i] |= windows.inside(0, w[i] + s * windows.dilation_w) ? 0x10000u << s : 0;
    }

    __device__ void copy(float* slab)
    {
        unsigned offset = tap.high * row_step + tap.middle * column_step + tap.low;
        unsigned bits = 1u << tap.high | 0x10000u << tap.middle;
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i)
            copy_quad<ALIGNED>(slab + to + Share::apart(i), images + (at[i] + offset), (inside[i] & bits) == bits);
        tap.add(step, columns, channels);
    }
};

template <bool ALIGNED> using PatchCopies = PatchCopiesInOrder<ALIGNED, ByImage>;

// The block's tile of left (rows, terms) · right (terms, K), for its group and part of the sum, where
// Source locates the values of `left` in the images x. `store` gets the sums and the task.
template <template <bool> class Source, class Store>
__device__ __forceinline__ void multiply_images(const float* x, const float* right, const Windows& windows,
                                                unsigned rows, unsigned terms, unsigned K, unsigned filters,
                                                unsigned length, Store store)
{
    __align__(16) __shared__ float a_slabs[STAGES * SLAB_A], b_slabs[STAGES * SLAB_B];
    unsigned group = blockIdx.z;
    Task task(blockIdx.x, filters, terms, length);
    x += group * windows.channels;
    right += group * filters;
    float sums[THREAD_M][THREAD_N];
    compute(
        sums, aligned(x, right),
        [&] {
            Source<true> left(x, windows, rows, task.m, task.k);
            MatrixCopies<TILE_N, false, true> matrix(right, K, filters, task.n, task.k, task.end);
            multiply<false>(sums, left, matrix, task.slabs, a_slabs, b_slabs);
        },
        [&] {
            Source<false> left(x, windows, rows, task.m, task.k);
            MatrixCopies<TILE_N, false, false> matrix(right, K, filters, task.n, task.k, task.end);
            multiply<true>(sums, left, matrix, task.slabs, a_slabs, b_slabs);
        });
    store(sums, task);
}

// The same, written to result (parts, rows, K).
template <template <bool> class Source, class Finish = AsIs>
__device__ __forceinline__ void multiply_images(float* result, const float* x, const float* right,
                                                const Windows& windows, unsigned rows, unsigned terms, unsigned K,
                                                unsigned filters, unsigned length, Finish finish = {})
{
    result += blockIdx.y * (rows * K) + blockIdx.z * filters;
    multiply_images<Source>(x, right, windows, rows, terms, K, filters, length,
                            [&](const float (&sums)[THREAD_M][THREAD_N], const Task& task) {
                                write(Rows{result, K}, sums, task.m, task.n, rows, filters, false, finish);
                            });
}
