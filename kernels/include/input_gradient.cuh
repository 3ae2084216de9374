// The gradient of a convolution with respect to its images, for gemm.cuh: for each remainder of the
// cells by the strides one product,
//
//   dx (H W N, C) = patches of dy (H W N, R S K) · weight turned around (R S K, C)
//
// A patch reaches beyond dy where a cell lies near the edge, and the taps there are dead: on 12 × 12
// cells of 5 × 5 filters more than half of all. The images count fastest, so that a tile lies at one
// position, or at few neighbouring ones, and its sum runs over those taps alone that reach dy from there.

// defines: THREAD_M, SLAB_A, SLAB_B, Slab, multiply, slice_of_thread
#include "gemm.cuh"
// defines: Windows, Odometer, Remainder
#include "windows.cuh"
// defines: can_load_quads
#include "patches.cuh"
// defines: NO_CELL, unpooled
#include "unpool.cuh"

// dy as it lies in memory.
struct Stored {
    const float* dy;

    __device__ bool has_quads(unsigned K, unsigned filters) const { return can_load_quads(dy, K, filters); }
    __device__ unsigned image(const Windows& windows, int n) const { return windows.cell(n, 0, 0); }
    __device__ float4 quad(const Windows& windows, unsigned image, int h, int w, int k, bool inside) const
    {
        return inside ? *(const float4*)(dy + (image + windows.cell(0, h, w) + k)) : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    __device__ float value(const Windows& windows, unsigned image, int h, int w, int k, bool inside) const
    {
        return inside ? dy[image + windows.cell(0, h, w) + k] : 0.f;
    }
};

// dy of the largest value of each 2 × 2 cells, at the cell that `index` names; the others have none.
struct Unpooled {
    const float* dy;
    const unsigned char* index;

    __device__ bool has_quads(unsigned K, unsigned filters) const
    {
        return can_load_quads(dy, K, filters) && (size_t)index % 4 == 0;
    }
    __device__ unsigned image(const Windows& windows, int n) const
    {
        return n * (windows.H / 2) * (windows.W / 2) * windows.C;
    }
    __device__ unsigned at(const Windows& windows, unsigned image, int h, int w, int k) const
    {
        return image + ((h >> 1) * (windows.W / 2) + (w >> 1)) * windows.C + k;
    }
    __device__ float4 quad(const Windows& windows, unsigned image, int h, int w, int k, bool inside) const
    {
        unsigned first = inside ? at(windows, image, h, w, k) : 0;
        return unpooled(dy + first, index + first, inside ? (h & 1) * 2 + (w & 1) : NO_CELL);
    }
    __device__ float value(const Windows& windows, unsigned image, int h, int w, int k, bool inside) const
    {
        unsigned one = inside ? at(windows, image, h, w, k) : 0;
        return unpooled(dy[one], index[one], inside ? (h & 1) * 2 + (w & 1) : NO_CELL);
    }
};

// Rows are cells (i, j, n), k counts taps (r, s, k) of dy.
template <bool QUADS, class Gradient> struct CellPatches {
    using Share = Slab<TILE_M, true>;
    Gradient gradient;
    const Windows& windows;
    Odometer tap, step;
    int h[Share::COUNT], w[Share::COUNT];
    unsigned image[Share::COUNT];

    __device__ CellPatches(Gradient gradient, const Windows& windows, unsigned count, unsigned first_row,
                           unsigned first_k)
        : gradient(gradient), windows(windows), tap(first_k + Share::k(), windows.S, windows.channels),
          step(TILE_K, windows.S, windows.channels)
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            Odometer cell(min(first_row + Share::row() + i * Share::STEP, count - 1), windows.Q, windows.N);
            h[i] = windows.first_h + cell.high;
            w[i] = windows.first_w + cell.middle;
            image[i] = gradient.image(windows, cell.low);
        }
    }

    __device__ void fetch(float4 (&quads)[Share::COUNT])
    {
        Odometer one = tap;
#pragma unroll
        for (int e = 0; e < (QUADS ? 1 : 4); ++e) {
            int dh = one.high * windows.dilation_h, dw = one.middle * windows.dilation_w;
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i) {
                int row = h[i] + dh, column = w[i] + dw;
                bool inside = one.high < windows.R && windows.inside(row, column);
                if (QUADS)
                    quads[i] = gradient.quad(windows, image[i], row, column, one.low, inside);
                else
                    (&quads[i].x)[e] = gradient.value(windows, image[i], row, column, one.low, inside);
            }
            if (!QUADS) one.next(windows.S, windows.channels);
        }
        tap.add(step, windows.S, windows.channels);
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

// Along one axis, those taps of a remainder that reach one of `windows` windows from one of the cells
// `low` to `high`: cell i meets with tap j the window origin + i - j · dilation.
struct LiveTaps {
    int first, count;

    __device__ LiveTaps(const Remainder& remainder, int windows, int dilation, int low, int high)
    {
        int reach = remainder.origin + high, beyond = remainder.origin + low - windows + 1;
        first = beyond > 0 ? (beyond + dilation - 1) / dilation : 0;
        int end = reach < 0 ? 0 : min(remainder.taps, reach / dilation + 1);
        count = max(end - first, 0);
    }
};

// Where the cells (i, j, n) of a remainder lie in dx.
struct CellsByPlace {
    float* dx;
    unsigned N, H, W, C, columns, h, w, stride_h, stride_w;

    __device__ float* operator()(unsigned m) const
    {
        unsigned n = m % N, i = m / N / columns, j = m / N % columns;
        return dx + ((n * H + h + i * stride_h) * W + w + j * stride_w) * C;
    }
    __device__ bool aligned() const { return C % 4 == 0 && (size_t)dx % 16 == 0; }
};

// The block's tile of dx. P × Q are the windows that the gradient has.
template <class Gradient>
__device__ __forceinline__ void multiply_gradient(float* __restrict__ dx, Gradient gradient,
                                                  const float* __restrict__ weight, unsigned N, int H, int W, int C,
                                                  int P, int Q, int K, int R, int S, int channels, int filters,
                                                  int stride_h, int stride_w, int top, int left, int dilation_h,
                                                  int dilation_w, int gcd_h, int gcd_w, int remainders_w,
                                                  unsigned tiles)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];
    int step_h = stride_h / gcd_h, step_w = stride_w / gcd_w;
    int h = blockIdx.x / tiles / remainders_w, w = blockIdx.x / tiles % remainders_w;
    Remainder rows(h, H, R, stride_h, top, dilation_h, step_h), columns(w, W, S, stride_w, left, dilation_w, step_w);
    unsigned cells = N * rows.cells * columns.cells, group = blockIdx.z;
    unsigned tiles_n = (channels + TILE_N - 1) / TILE_N, m = blockIdx.x % tiles / tiles_n * TILE_M;
    if (m >= cells) return;  // `tiles` are those of the remainder with the most cells; the whole block returns

    int first = m / N, last = (min(m + TILE_M, cells) - 1) / N;  // positions
    int top_row = first / columns.cells, bottom_row = last / columns.cells;
    bool one_row = top_row == bottom_row;
    int down = dilation_h / gcd_h, right = dilation_w / gcd_w;
    LiveTaps live_rows(rows, P, down, top_row, bottom_row);
    LiveTaps live_columns(columns, Q, right, one_row ? first % columns.cells : 0,
                          one_row ? last % columns.cells : columns.cells - 1);
    unsigned terms = live_rows.count * live_columns.count * filters;
    unsigned length = (terms + gridDim.y * TILE_K - 1) / (gridDim.y * TILE_K) * TILE_K;  // of a part of the sum
    Task task(blockIdx.x % tiles, channels, terms, length);

    int taps_r = live_columns.count ? live_rows.count : 0, taps_s = max(live_columns.count, 1);
    Windows windows{N,
                    P,
                    Q,
                    K,
                    filters,
                    rows.cells,
                    columns.cells,
                    taps_r,
                    taps_s,
                    rows.origin - live_rows.first * down,
                    columns.origin - live_columns.first * right,
                    1,
                    1,
                    -down,
                    -right};
    unsigned of_a_column = channels * K, of_a_row = S * of_a_column;
    unsigned row_step = step_h * of_a_row, column_step = step_w * of_a_column;
    gradient.dy += group * filters;
    weight += rows.first * of_a_row + columns.first * of_a_column + group * filters;
    weight += live_rows.first * row_step + live_columns.first * column_step;
    float sums[THREAD_M][THREAD_N];
    if (gradient.has_quads(K, filters) && can_load_quads(weight, K, filters)) {
        CellPatches<true, Gradient> patches(gradient, windows, cells, task.m, task.k);
        TurnedWeight<true> turned(weight, channels, K, filters, taps_r, taps_s, row_step, column_step, task.n, task.k);
        multiply(sums, patches, turned, task.slabs, a_slabs, b_slabs);
    } else {
        CellPatches<false, Gradient> patches(gradient, windows, cells, task.m, task.k);
        TurnedWeight<false> turned(weight, channels, K, filters, taps_r, taps_s, row_step, column_step, task.n, task.k);
        multiply(sums, patches, turned, task.slabs, a_slabs, b_slabs);
    }
    if (slice_of_thread() > 0) return;
    CellsByPlace result{dx + blockIdx.y * (N * H * W * C) + group * channels,
                        N,
                        (unsigned)H,
                        (unsigned)W,
                        (unsigned)C,
                        (unsigned)columns.cells,
                        (unsigned)h,
                        (unsigned)w,
                        (unsigned)stride_h,
                        (unsigned)stride_w};
    write(result, sums, task.m, task.n, cells, channels, false);
}
