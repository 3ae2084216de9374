// The cells of images that the windows of a block meet, at stride 1, in shared memory: whole rows of windows with
// the halo around them. The rows of several images follow one another, each with the halo below it.

// defines: copy_quad
#include "copies.cuh"
// defines: Windows, Odometer, Place
#include "windows.cuh"

// The cells that a block's windows meet, CHANNELS channels of each: `first` is the first of the windows, `rows`
// are the rows of the cells. A cell has PITCH words in each of the arrays in which Stored keeps its values, four
// words for four values.
template <class Order, int CHANNELS, int PITCH, class Stored> struct Halo {
    const float* images;
    const Windows& windows;
    unsigned* words;
    Place first;
    int rows, columns;
    int of_image;  // rows of cells from one image to the next
    int apart;

    // An array has room for its rows and as many cells `beyond` them.
    __device__ Halo(const float* images, const Windows& windows, unsigned* words, unsigned first_window, int rows,
                    int beyond = 0)
        : images(images), windows(windows), words(words),
          first(Order::of(Odometer(first_window, windows.P, windows.Q))), rows(rows)
    {
        Place last = Order::of(Odometer(windows.P * windows.Q - 1, windows.P, windows.Q));
        of_image = last.row + 1 + (windows.R - 1) * windows.dilation_h;
        columns = last.column + 1 + (windows.S - 1) * windows.dilation_w;
        apart = (rows * columns + beyond) * PITCH;
    }

    // Leave out the rows behind those that a last window meets.
    __device__ void end_with(unsigned window)
    {
        Place end = Order::of(Odometer(window, windows.P, windows.Q));
        rows = (end.image - first.image) * of_image + end.row - first.row + 1 + (windows.R - 1) * windows.dilation_h;
    }

    // The first word of the cell that the first tap of a window meets.
    __device__ int cell(unsigned window) const
    {
        Place place = Order::of(Odometer(window, windows.P, windows.Q));
        int row = (place.image - first.image) * of_image + place.row - first.row;
        return (row * columns + place.column) * PITCH;
    }

    // Start to copy the channels from `channel` on of all cells; zeros outside of the images. `convert` follows, for
    // which a thread waits for its own copies.
    __device__ void copy(int channel) const
    {
        constexpr int STEP = THREADS / QUADS;  // cells of a row from one copy of a thread to its next
        int place = threadIdx.x / QUADS, image = first.image, h = first.row + windows.first_h;
        channel += threadIdx.x % QUADS * 4;
        unsigned columns_inside = channel < windows.channels ? windows.W : 0;
        float* at = (float*)words + place * PITCH + threadIdx.x % QUADS * 4;
#pragma unroll 1
        for (int row = 0; row < rows; ++row, ++h, at += columns * PITCH) {
            if (h == of_image + windows.first_h) h = windows.first_h, ++image;
            bool inside = image < windows.N && (unsigned)h < (unsigned)windows.H;
            unsigned from = windows.cell(image, h, windows.first_w + place) + channel;
            float* to = at;
#pragma unroll 1
            for (int column = place; column < columns; column += STEP) {
                bool copied = inside && (unsigned)(column + windows.first_w) < columns_inside;
                copy_quad<true>(to, images + (copied ? from : 0), copied);
                from += STEP * windows.C, to += STEP * PITCH;
            }
        }
    }

    // In place of the values that this thread has copied, what Stored makes of them.
    __device__ void convert() const
    {
        constexpr int STEP = THREADS / QUADS;
        int place = threadIdx.x / QUADS;
        unsigned* at = words + place * PITCH + threadIdx.x % QUADS * 4;
#pragma unroll 1
        for (int row = 0; row < rows; ++row, at += columns * PITCH)
#pragma unroll 2
            for (int column = place; column < columns; column += STEP) {
                unsigned* cell = at + (column - place) * PITCH;
                float4 quad = *(const float4*)cell;
                const float values[] = {quad.x, quad.y, quad.z, quad.w};
                Stored(values).store(cell, apart);
            }
    }

private:
    static constexpr int QUADS = CHANNELS / 4;
};
