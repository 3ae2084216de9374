// Direct pooling: y[n,p,q,c] = maximum or mean of x[n,h,w,c] over the cells h = p · stride_p -
// top + r, 0 <= r < R, and w = q · stride_q - left + s, 0 <= s < S, that lie inside the image.
//
// One thread per result and PACK channels. Neighbouring threads have neighbouring channels, so that
// a warp reads and writes whole lines; where windows overlap, the cells come from the cache.
// Gradients are gathered: a thread owns cells of dx and visits the windows that cover them, so no
// two threads add to one value, and the order of a sum is fixed. Grid: ⌈results / (PACK · THREADS)⌉
// blocks.

// defines: Pack, load, store, filled
#include "pack.cuh"

struct Place {
    int n, row, column, c;
};

// The place of the i-th pack in an array of any number of images with these extents.
__device__ Place place(unsigned i, unsigned rows, unsigned columns, unsigned C)
{
    unsigned packs = C / PACK, pixel = i / packs, line = pixel / columns, n = line / rows;
    return {(int)n, (int)(line - n * rows), (int)(pixel - line * columns), (int)((i - pixel * packs) * PACK)};
}

struct Range {
    int begin, end;
};

// Taps of a window of `taps` cells starting at `origin` (negative in the padding) that lie on an
// axis of `size` cells.
__device__ Range taps_inside(int origin, int taps, int size) { return {max(0, -origin), min(taps, size - origin)}; }

// Windows that cover a cell, the cell counted from the start of the padding.
__device__ Range windows_over(int cell, int taps, int stride, int count)
{
    return {cell < taps ? 0 : (cell - taps) / stride + 1, min(count, cell / stride + 1)};
}

// One division for all channels: 1 / count of the cells that a window has inside the image.
__device__ float share(Range r, Range s) { return 1.f / (float)((r.end - r.begin) * (s.end - s.begin)); }

extern "C" __global__ void maxpool2d_direct(float* __restrict__ y, const float* __restrict__ x, unsigned packs, int H,
                                            int W, int C, int P, int Q, int R, int S, int stride_p, int stride_q,
                                            int top, int left)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    Place at = place(i, P, Q, C);
    int h = at.row * stride_p - top, w = at.column * stride_q - left;
    Range rows = taps_inside(h, R, H), columns = taps_inside(w, S, W);
    const float* image = x + at.n * H * W * C + at.c;
    Pack best = filled(-__int_as_float(0x7f800000));  // minus infinity
    for (int r = rows.begin; r < rows.end; ++r) {
#pragma unroll 2
        for (int s = columns.begin; s < columns.end; ++s) {
            Pack cell = load(image + ((h + r) * W + w + s) * C);
            for (int j = 0; j < PACK; ++j) {
                float value = cell.lane[j];
                bool better = value > best.lane[j] || value != value;  // a NaN stays: nothing is larger
                best.lane[j] = better ? value : best.lane[j];
            }
        }
    }
    store(y + i * PACK, best);
}

// The gradient where windows overlap: each thread owns cells of dx. A window hands them its dy if
// they equal its y and no earlier cell of the window does.
extern "C" __global__ void maxpool2d_grad_direct(float* __restrict__ dx, const float* __restrict__ dy,
                                                 const float* __restrict__ x, const float* __restrict__ y,
                                                 unsigned packs, int H, int W, int C, int P, int Q, int R, int S,
                                                 int stride_p, int stride_q, int top, int left)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    Place at = place(i, H, W, C);
    Range rows = windows_over(at.row + top, R, stride_p, P), columns = windows_over(at.column + left, S, stride_q, Q);
    const float* image = x + at.n * H * W * C + at.c;
    Pack own = load(x + i * PACK), total = filled(0.f);
    for (int p = rows.begin; p < rows.end; ++p) {
        for (int q = columns.begin; q < columns.end; ++q) {
            int window = ((at.n * P + p) * Q + q) * C + at.c;
            Pack best = load(y + window);
            bool wins[PACK], any = false;
            for (int j = 0; j < PACK; ++j) any |= wins[j] = own.lane[j] == best.lane[j];
            if (!any) continue;
            int left_edge = q * stride_q - left;
            for (int h = max(0, p * stride_p - top); h <= at.row; ++h) {
                int end = h == at.row ? at.column : min(left_edge + S, W);
                for (int w = max(0, left_edge); w < end; ++w) {
                    Pack earlier = load(image + (h * W + w) * C);
                    for (int j = 0; j < PACK; ++j) wins[j] &= earlier.lane[j] != best.lane[j];
                }
            }
            Pack gradient = load(dy + window);
            for (int j = 0; j < PACK; ++j) total.lane[j] += wins[j] ? gradient.lane[j] : 0.f;
        }
    }
    store(dx + i * PACK, total);
}

// The gradient where no windows overlap: the image falls into tiles of stride_p × stride_q cells, a
// window in the corner of each, and a thread owns a tile. It reads every cell, y and dy once. The
// last tiles of a row or a column may have no window and end with the image: their cells, and those
// between windows, get 0.
extern "C" __global__ void maxpool2d_grad_tiles(float* __restrict__ dx, const float* __restrict__ dy,
                                                const float* __restrict__ x, const float* __restrict__ y,
                                                unsigned packs, int tile_rows, int tile_columns, int H, int W, int C,
                                                int P, int Q, int R, int S, int stride_p, int stride_q, int top,
                                                int left)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    Place at = place(i, tile_rows, tile_columns, C);
    int h = at.row * stride_p - top, w = at.column * stride_q - left;
    Range rows = taps_inside(h, stride_p, H), columns = taps_inside(w, stride_q, W);
    bool window = at.row < P && at.column < Q;
    int index = ((at.n * P + at.row) * Q + at.column) * C + at.c, image = at.n * H * W * C + at.c;
    Pack best = window ? load(y + index) : filled(0.f), left_over = window ? load(dy + index) : filled(0.f);
    for (int r = rows.begin; r < rows.end; ++r) {
#pragma unroll 2
        for (int s = columns.begin; s < columns.end; ++s) {
            int cell = image + ((h + r) * W + w + s) * C;
            Pack gradient = filled(0.f);
            if (window && r < R && s < S) {
                Pack value = load(x + cell);
                for (int j = 0; j < PACK; ++j) {
                    bool wins = value.lane[j] == best.lane[j];
                    gradient.lane[j] = wins ? left_over.lane[j] : 0.f;
                    left_over.lane[j] = wins ? 0.f : left_over.lane[j];
                }
            }
            store(dx + cell, gradient);
        }
    }
}

// Each row of a window is added up by itself, so that rounding grows with √R + √S.
extern "C" __global__ void avgpool2d_direct(float* __restrict__ y, const float* __restrict__ x, unsigned packs, int H,
                                            int W, int C, int P, int Q, int R, int S, int stride_p, int stride_q,
                                            int top, int left)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    Place at = place(i, P, Q, C);
    int h = at.row * stride_p - top, w = at.column * stride_q - left;
    Range rows = taps_inside(h, R, H), columns = taps_inside(w, S, W);
    const float* image = x + at.n * H * W * C + at.c;
    Pack total = filled(0.f);
    for (int r = rows.begin; r < rows.end; ++r) {
        Pack row = filled(0.f);
#pragma unroll 2
        for (int s = columns.begin; s < columns.end; ++s) {
            Pack cell = load(image + ((h + r) * W + w + s) * C);
            for (int j = 0; j < PACK; ++j) row.lane[j] += cell.lane[j];
        }
        for (int j = 0; j < PACK; ++j) total.lane[j] += row.lane[j];
    }
    float part = share(rows, columns);
    for (int j = 0; j < PACK; ++j) total.lane[j] *= part;
    store(y + i * PACK, total);
}

extern "C" __global__ void avgpool2d_grad_direct(float* __restrict__ dx, const float* __restrict__ dy, unsigned packs,
                                                 int H, int W, int C, int P, int Q, int R, int S, int stride_p,
                                                 int stride_q, int top, int left)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    Place at = place(i, H, W, C);
    Range rows = windows_over(at.row + top, R, stride_p, P), columns = windows_over(at.column + left, S, stride_q, Q);
    Pack total = filled(0.f);
    for (int p = rows.begin; p < rows.end; ++p) {
        Range r = taps_inside(p * stride_p - top, R, H);
        for (int q = columns.begin; q < columns.end; ++q) {
            float part = share(r, taps_inside(q * stride_q - left, S, W));
            Pack gradient = load(dy + ((at.n * P + p) * Q + q) * C + at.c);
            for (int j = 0; j < PACK; ++j) total.lane[j] += gradient.lane[j] * part;
        }
    }
    store(dx + i * PACK, total);
}
