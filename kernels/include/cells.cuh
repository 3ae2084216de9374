// The cells of images that the windows of a block meet, at stride 1, in shared memory: whole rows of windows with
// the halo around them. The rows of several images follow one another, each with the halo below it.

// defines: Windows, Odometer, Place, ByImage, ByPool
#include "windows.cuh"

// The cells that a block's windows meet, CHANNELS channels of each: `first` is the first of the windows, `rows`
// are the rows of the cells. A cell has PITCH words in each of the arrays in which Stored keeps its values.
template <class Order, int CHANNELS, int PITCH, class Stored> struct Halo {
    const float* images;
    const Windows& windows;
    unsigned* words;
    Place first;
    int rows, columns;
    int of_image;  // rows of cells from one image to the next
    int apart;

    __device__ Halo(const float* images, const Windows& windows, unsigned* words, unsigned first_window, int rows)
        : images(images), windows(windows), words(words),
          first(Order::of(Odometer(first_window, windows.P, windows.Q))), rows(rows)
    {
        Place last = Order::of(Odometer(windows.P * windows.Q - 1, windows.P, windows.Q));
        of_image = last.row + 1 + (windows.R - 1) * windows.dilation_h;
        columns = last.column + 1 + (windows.S - 1) * windows.dilation_w;
        apart = rows * columns * PITCH;
    }

    // The first word of the cell that the first tap of a window meets.
    __device__ int cell(unsigned window) const
    {
        Place place = Order::of(Odometer(window, windows.P, windows.Q));
        int row = (place.image - first.image) * of_image + place.row - first.row;
        return (row * columns + place.column) * PITCH;
    }

    // The channels from `channel` on of all cells; zeros outside of the images.
    __device__ void fill(int channel) const
    {
        constexpr int LOADS = 2, QUADS = CHANNELS / 4;  // loads of a thread that are under way together
        Odometer at(threadIdx.x, columns, QUADS), step(THREADS, columns, QUADS);
        int count = rows * columns * QUADS;
#pragma unroll 1
        for (int i = threadIdx.x; i < count; i += LOADS * THREADS) {
            float4 values[LOADS];
#pragma unroll
            for (int e = 0; e < LOADS; ++e) {
                int row = first.row + at.high, image = first.image + row / of_image;
                int h = row % of_image + windows.first_h, w = at.middle + windows.first_w, c = channel + 4 * at.low;
                bool inside = at.high < rows && image < windows.N && c < windows.channels && windows.inside(h, w);
                values[e] = inside ? *(const float4*)(images + (windows.cell(image, h, w) + c))
                                   : make_float4(0.f, 0.f, 0.f, 0.f);
                at.add(step, columns, QUADS);
            }
#pragma unroll
            for (int e = 0; e < LOADS; ++e) {
                const float quad[] = {values[e].x, values[e].y, values[e].z, values[e].w};
                int place = i + e * THREADS;
                if (place < count) Stored(quad).store(words + place / QUADS * PITCH + place % QUADS * Stored::WORDS, apart);
            }
        }
    }
};
