// Padding, cropping and transposing: one thread per value of the result looks up where it comes
// from.
//
//     pad, crop:   y[i, j, …] = x[i - before_i, j - before_j, …], or 0 outside of x
//                  (before < 0: crop)
//     transpose:   y[i, j, …] = x[i · step_i + j · step_j + …]
//     matrices:    y[b, n, m] = x[b, m, n]
//
// They move 8 bytes per value and compute only addresses, so the order of the accesses is
// everything. Neighbouring threads write neighbouring values, and in the first two mostly read
// such. VALUE is float4 where all runs are multiples of four values, else float; extents and steps
// count VALUEs. A transposed matrix would be read with a step of N: there a tile is read along n
// into shared memory and written along m. The grid is one-dimensional: values of y, or tiles.
//
// Numbers of axes come in lists of eight, the last axis last, the axes that lack first.

constexpr int MOST_AXES = 8;

extern "C" __global__ void pad_elementwise(float* __restrict__ y, const float* __restrict__ x, unsigned size, int axes,
                                           unsigned x0, unsigned x1, unsigned x2, unsigned x3, unsigned x4, unsigned x5,
                                           unsigned x6, unsigned x7, unsigned y0, unsigned y1, unsigned y2, unsigned y3,
                                           unsigned y4, unsigned y5, unsigned y6, unsigned y7, int before0, int before1,
                                           int before2, int before3, int before4, int before5, int before6, int before7)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const unsigned extent_x[MOST_AXES] = {x0, x1, x2, x3, x4, x5, x6, x7};
    const unsigned extent_y[MOST_AXES] = {y0, y1, y2, y3, y4, y5, y6, y7};
    const int before[MOST_AXES] = {before0, before1, before2, before3, before4, before5, before6, before7};

    unsigned rest = i, at = 0, step = 1;
    bool inside = true;
#pragma unroll
    for (int axis = MOST_AXES - 1; axis >= 0; --axis) {
        if (axis < MOST_AXES - axes) break;
        unsigned outer = rest / extent_y[axis];
        unsigned cell = rest - outer * extent_y[axis] - before[axis];  // in front of x it wraps round and is huge
        inside = inside && cell < extent_x[axis];
        at += cell * step;
        step *= extent_x[axis];
        rest = outer;
    }
    VALUE zero = {};
    reinterpret_cast<VALUE*>(y)[i] = inside ? reinterpret_cast<const VALUE*>(x)[at] : zero;
}

extern "C" __global__ void transpose_elementwise(float* __restrict__ y, const float* __restrict__ x, unsigned size,
                                                 int axes, unsigned y0, unsigned y1, unsigned y2, unsigned y3,
                                                 unsigned y4, unsigned y5, unsigned y6, unsigned y7, unsigned step0,
                                                 unsigned step1, unsigned step2, unsigned step3, unsigned step4,
                                                 unsigned step5, unsigned step6, unsigned step7)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const unsigned extent[MOST_AXES] = {y0, y1, y2, y3, y4, y5, y6, y7};
    const unsigned step[MOST_AXES] = {step0, step1, step2, step3, step4, step5, step6, step7};

    unsigned rest = i, at = 0;
#pragma unroll
    for (int axis = MOST_AXES - 1; axis >= 0; --axis) {
        if (axis < MOST_AXES - axes) break;
        unsigned outer = rest / extent[axis];
        at += (rest - outer * extent[axis]) * step[axis];
        rest = outer;
    }
    reinterpret_cast<VALUE*>(y)[i] = reinterpret_cast<const VALUE*>(x)[at];
}

// A block of TILE × ROWS threads: a tile of TILE × TILE, 4.2 KB of shared memory.
extern "C" __global__ void transpose_matrices(float* __restrict__ y, const float* __restrict__ x, int M, int N)
{
    __shared__ float tile[TILE][TILE + 1];  // one column more, so that a column of the tile lies in 32 banks
    unsigned tiles_m = (M + TILE - 1) / TILE, tiles_n = (N + TILE - 1) / TILE;
    int n0 = blockIdx.x % tiles_n * TILE, m0 = blockIdx.x / tiles_n % tiles_m * TILE;
    unsigned matrix = blockIdx.x / tiles_n / tiles_m * M * N;

#pragma unroll
    for (int row = threadIdx.y; row < TILE; row += ROWS) {
        int m = m0 + row, n = n0 + threadIdx.x;
        if (m < M && n < N) tile[row][threadIdx.x] = x[matrix + m * N + n];
    }
    __syncthreads();  // waits for the whole tile: each thread writes what others have read
#pragma unroll
    for (int row = threadIdx.y; row < TILE; row += ROWS) {
        int m = m0 + threadIdx.x, n = n0 + row;
        if (m < M && n < N) y[matrix + n * M + m] = tile[threadIdx.x][row];
    }
}
