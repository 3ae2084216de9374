// The cells of images that the windows of a block meet, at stride 1, in shared memory: whole rows of windows with
// the halo around them. The rows of several images follow one another, each with the halo below it.

// defines: copy_quad
#include "copies.cuh"
// defines: Windows, Odometer, Place, ByImage, ByPool
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

    // Start to copy the channels from `channel` on of all cells; zeros outside of the images. `converted` follows,
    // for which a thread waits for its own copies.
    __device__ void copy(int channel) const
    {
        Odometer at(threadIdx.x, columns, QUADS), step(THREADS, columns, QUADS);
        int image = first.image, row = first.row + at.high;
#pragma unroll 1
        for (int i = threadIdx.x; i < rows * columns * QUADS; i += THREADS) {
            for (; row >= of_image; row -= of_image) ++image;
            int h = row + windows.first_h, w = at.middle + windows.first_w, c = channel + 4 * at.low;
            bool inside = image < windows.N && c < windows.channels && windows.inside(h, w);
            copy_quad<true>((float*)words + place_of(i), images + (inside ? windows.cell(image, h, w) + c : 0), inside);
            row -= at.high;
            at.add(step, columns, QUADS);
            row += at.high;
        }
    }

    // In place of the values that this thread has copied, what Stored makes of them.
    __device__ void convert() const
    {
#pragma unroll 4
        for (int i = threadIdx.x; i < rows * columns * QUADS; i += THREADS) {
            float4 quad = *(const float4*)(words + place_of(i));
            const float values[] = {quad.x, quad.y, quad.z, quad.w};
            Stored(values).store(words + place_of(i), apart);
        }
    }

  private:
    static constexpr int QUADS = CHANNELS / 4;
    static __device__ int place_of(int i) { return i / QUADS * PITCH + i % QUADS * 4; }
};
