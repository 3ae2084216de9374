// Direct convolution over three axes, and so over fewer: an image is a volume of one plane, a
// sequence an image of one row. A family passes the constants of such an axis, the functions are
// inlined, and the loops over it vanish.
//
//     y[n, o, p, q, k]       = Σ x[n, d, h, w, c] · weight[t, r, s, c, k]     over t, r, s, c
//     dx[n, d, h, w, c]      = Σ dy[n, o, p, q, k] · weight[t, r, s, c, k]    over t, r, s, k
//     dweight[t, r, s, c, k] = Σ dy[n, o, p, q, k] · x[n, d, h, w, c]         over n, o, p, q
//
//     where  d = o · stride + t · dilation - front,  h and w alike from p, r and q, s
//
// What this adds to one thread per value: a thread owns a patch of 4 × VALUES results in registers
// (4 positions, or rows of dweight; VALUES = 4 neighbouring filters or channels, 1 where their
// number per group is not a multiple of 4). A weight that was loaded serves four positions and a
// pixel four filters: 16 multiply-adds for 5 loads, instead of 16 for 32. Neighbouring threads own
// neighbouring filters or channels: their weights are one line of memory, and they load the same
// pixel, which is one load for all of them. There is no shared memory: L1 holds what windows have
// in common.
//
// Positions before an axis wrap round to huge unsigned numbers, so that one comparison detects
// padding.

// defines: InMemory, column_sums
#include "column_sums.cuh"

constexpr int WINDOWS = 4;  // positions of a thread along the last axis, and its rows of dweight

struct Axis {
    int cells, taps, windows, stride, dilation, before;  // before: cells of padding
};

struct Convolution {
    int N, C, K, groups;
    Axis d, h, w;
};

__device__ __forceinline__ Axis single() { return {1, 1, 1, 1, 1, 0}; }

__device__ __forceinline__ int ceil_div(int count, int size) { return (count - 1) / size + 1; }

// VALUES neighbouring floats; four of them lie at a multiple of 16 bytes.
__device__ __forceinline__ void load(float (&values)[VALUES], const float* from)
{
#if VALUES == 4
    float4 four = __ldg(reinterpret_cast<const float4*>(from));
    values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
#else
    values[0] = __ldg(from);
#endif
}

__device__ __forceinline__ void store(float* to, const float (&values)[VALUES])
{
#if VALUES == 4
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
#else
    *to = values[0];
#endif
}

// total[j][v] += Σ cells[j][i] · weights[i · pitch + v]     over i < count
// for the positions j that are inside. The others may point anywhere in the array: a load that is
// thrown away costs less than one that depends on a condition.
__device__ __forceinline__ void add_products(float (&total)[WINDOWS][VALUES], const float* (&cells)[WINDOWS],
                                             const bool (&inside)[WINDOWS], const float* weights, int count, int pitch)
{
#pragma unroll 4
    for (int i = 0; i < count; ++i, weights += pitch) {
        float weight[VALUES];
        load(weight, weights);
#pragma unroll
        for (int j = 0; j < WINDOWS; ++j) {
            float found = __ldg(cells[j] + i), cell = inside[j] ? found : 0.f;
#pragma unroll
            for (int v = 0; v < VALUES; ++v) total[j][v] = fmaf(cell, weight[v], total[j][v]);
        }
    }
}

// A thread: VALUES filters at WINDOWS neighbouring windows of one row. Grid: all of y, filters
// first.
__device__ __forceinline__ void direct_forward(float* __restrict__ y, const float* __restrict__ x,
                                               const float* __restrict__ weight, const Convolution& conv)
{
    const Axis &d = conv.d, &h = conv.h, &w = conv.w;
    int C = conv.C / conv.groups, K = conv.K;  // C: channels of one group
    unsigned columns = K / VALUES, tiles = ceil_div(w.windows, WINDOWS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    int k = i % columns * VALUES;
    unsigned q = i / columns % tiles * WINDOWS;
    unsigned row = i / columns / tiles;  // of all N · O · P rows of y
    if (row >= unsigned(conv.N * d.windows * h.windows)) return;

    unsigned p = row % h.windows, o = row / h.windows % d.windows, n = row / h.windows / d.windows;
    unsigned first = k / (K / conv.groups) * C;  // the channel at which the filters' group begins
    float total[WINDOWS][VALUES] = {};
    for (int t = 0; t < d.taps; ++t) {
        unsigned plane = o * d.stride + t * d.dilation - d.before;
        if (plane >= unsigned(d.cells)) continue;
        for (int r = 0; r < h.taps; ++r) {
            unsigned line = p * h.stride + r * h.dilation - h.before;
            if (line >= unsigned(h.cells)) continue;
            unsigned start = ((n * d.cells + plane) * h.cells + line) * w.cells;
            for (int s = 0; s < w.taps; ++s) {
                const float* cells[WINDOWS];
                bool inside[WINDOWS];
#pragma unroll
                for (int j = 0; j < WINDOWS; ++j) {
                    unsigned cell = (q + j) * w.stride + s * w.dilation - w.before;
                    inside[j] = cell < unsigned(w.cells);
                    cells[j] = inside[j] ? x + (start + cell) * conv.C + first : x;
                }
                int tap = (t * h.taps + r) * w.taps + s;
                add_products(total, cells, inside, weight + tap * C * K + k, C, K);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < WINDOWS; ++j)
        if (q + j < unsigned(w.windows)) store(y + (row * w.windows + q + j) * K + k, total[j]);
}

// weight (taps, C / groups, K) → exchanged (taps, K / groups, C): for a gradient of x, in which
// neighbouring threads own neighbouring channels, what they load together must lie together. A
// thread: one weight.
extern "C" __global__ void exchange_filters(float* __restrict__ exchanged, const float* __restrict__ weight, int taps,
                                            int C, int K, int groups)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned group_C = C / groups, group_K = K / groups;
    if (i >= taps * group_K * C) return;
    unsigned c = i % C, k = i / C % group_K, tap = i / C / group_K;
    exchanged[i] = weight[(tap * group_C + c % group_C) * K + c / group_C * group_K + k];
}

// The window whose tap lies on this cell of the axis, or -1.
__device__ __forceinline__ int window_at(const Axis& axis, int cell, int tap)
{
    int start = cell + axis.before - tap * axis.dilation;
    return start >= 0 && start % axis.stride == 0 && start / axis.stride < axis.windows ? start / axis.stride : -1;
}

// A thread: VALUES channels at WINDOWS cells of one row, gathered, so that nobody else writes them.
// The cells lie one stride apart: a tap that meets the first meets the others at the following
// windows, and one that misses it misses all. Grid: all of dx, channels first, then the remainders
// of the cells by the stride.
__device__ __forceinline__ void direct_grad_input(float* __restrict__ dx, const float* __restrict__ dy,
                                                  const float* __restrict__ exchanged, const Convolution& conv)
{
    const Axis &d = conv.d, &h = conv.h, &w = conv.w;
    int C = conv.C, K = conv.K / conv.groups;  // K: filters of one group
    unsigned columns = C / VALUES, remainders = min(w.stride, w.cells);
    unsigned tiles = ceil_div(ceil_div(w.cells, remainders), WINDOWS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    int c = i % columns * VALUES;
    unsigned remainder = i / columns % remainders, tile = i / columns / remainders % tiles;
    unsigned row = i / columns / remainders / tiles;  // of all N · D · H rows of dx
    if (row >= unsigned(conv.N * d.cells * h.cells)) return;

    int line = row % h.cells, plane = row / h.cells % d.cells, n = row / h.cells / d.cells;
    unsigned cell = remainder + tile * WINDOWS * w.stride;
    unsigned first = c / (C / conv.groups) * K;  // the filter at which the channels' group begins
    float total[WINDOWS][VALUES] = {};
    for (int t = 0; t < d.taps; ++t) {
        int o = window_at(d, plane, t);
        if (o < 0) continue;
        for (int r = 0; r < h.taps; ++r) {
            int p = window_at(h, line, r);
            if (p < 0) continue;
            unsigned start = ((n * d.windows + o) * h.windows + p) * w.windows;
            for (int s = 0; s < w.taps; ++s) {
                int reach = int(cell) + w.before - s * w.dilation;
                if (reach % w.stride != 0) continue;
                const float* cells[WINDOWS];
                bool inside[WINDOWS];
#pragma unroll
                for (int j = 0; j < WINDOWS; ++j) {
                    unsigned q = reach / w.stride + j;
                    inside[j] = q < unsigned(w.windows);
                    cells[j] = inside[j] ? dy + (start + q) * conv.K + first : dy;
                }
                int tap = (t * h.taps + r) * w.taps + s;
                add_products(total, cells, inside, exchanged + tap * K * C + c, K, C);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < WINDOWS; ++j, cell += w.stride)
        if (cell < unsigned(w.cells)) store(dx + (row * w.cells + cell) * C + c, total[j]);
}

// A thread: VALUES filters of WINDOWS rows of dweight, read as a matrix (T · R · S · C, K), summed
// over one slice of the N · O · P · Q positions. A layer of few weights needs many slices to fill a
// GPU. Grid: all of the partial sums.
__device__ __forceinline__ void direct_grad_weight(float* __restrict__ partial, const float* __restrict__ dy,
                                                   const float* __restrict__ x, const Convolution& conv, int slices)
{
    const Axis &d = conv.d, &h = conv.h, &w = conv.w;
    int C = conv.C / conv.groups, K = conv.K;  // C: channels of one group
    unsigned rows = d.taps * h.taps * w.taps * C;
    unsigned columns = K / VALUES, tiles = ceil_div(rows, WINDOWS);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    int k = i % columns * VALUES;
    unsigned row = i / columns % tiles * WINDOWS, slice = i / columns / tiles;
    if (slice >= unsigned(slices)) return;

    unsigned plane[WINDOWS], line[WINDOWS], cell[WINDOWS], channel[WINDOWS];  // each row's tap, seen from its window
#pragma unroll
    for (int j = 0; j < WINDOWS; ++j) {
        unsigned known = min(row + j, rows - 1), tap = known / C;  // past the end the last row, computed in vain
        cell[j] = tap % w.taps * w.dilation - w.before;
        line[j] = tap / w.taps % h.taps * h.dilation - h.before;
        plane[j] = tap / w.taps / h.taps * d.dilation - d.before;
        channel[j] = k / (K / conv.groups) * C + known % C;
    }

    unsigned positions = conv.N * d.windows * h.windows * w.windows;
    unsigned per_slice = ceil_div(positions, slices);
    unsigned position = slice * per_slice, end = min(positions, position + per_slice);
    float total[WINDOWS][VALUES] = {};
    while (position < end) {  // a row of windows, or the part of it that lies in the slice
        unsigned q = position % w.windows, above = position / w.windows;
        unsigned p = above % h.windows, o = above / h.windows % d.windows, n = above / h.windows / d.windows;
        unsigned at[WINDOWS];
        bool inside[WINDOWS];
#pragma unroll
        for (int j = 0; j < WINDOWS; ++j) {
            unsigned z = o * d.stride + plane[j], y = p * h.stride + line[j];
            inside[j] = z < unsigned(d.cells) && y < unsigned(h.cells);
            at[j] = (((n * d.cells + z) * h.cells + y) * w.cells + cell[j]) * conv.C + channel[j];
        }
        unsigned stop = min(end, position - q + w.windows);
#pragma unroll 4
        for (unsigned start = q * w.stride; position < stop; ++position, start += w.stride) {
            float dy_values[VALUES];
            load(dy_values, dy + position * K + k);
#pragma unroll
            for (int j = 0; j < WINDOWS; ++j) {
                bool meets = inside[j] && start + cell[j] < unsigned(w.cells);
                float value = meets ? __ldg(x + (at[j] + start * conv.C)) : 0.f;
#pragma unroll
                for (int v = 0; v < VALUES; ++v) total[j][v] = fmaf(value, dy_values[v], total[j][v]);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < WINDOWS; ++j)
        if (row + j < rows) store(partial + (slice * rows + row + j) * K + k, total[j]);
}

// dweight = the slices' partial sums, added in a fixed order.
extern "C" __global__ void join_slices(float* __restrict__ total, const float* __restrict__ sums, unsigned rows,
                                       unsigned columns, unsigned width, unsigned rows_per_slice)
{
    column_sums(total, InMemory{sums}, rows, columns, width, rows_per_slice);
}
