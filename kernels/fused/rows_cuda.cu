// The gradient of a maximum of 2 × 2 cells, stored, and that of the bias below it:
//
//   dz[n, p, q, k] = dy[n, p / 2, q / 2, k] where index names the cell of (p, q), else 0
//   db[k]          = Σ dz[n, p, q, k]
//
// A thread takes four neighbouring filters of every so-manyth window, writes them to the four cells and
// adds them up. The sum is cut into slices, one block for each slice and WIDTH filters, and the last
// block adds up the slices, as in include/column_totals.cuh. Traffic: 5 bytes read and 16 written for
// each value of dy.

// defines: totals_of_lanes, sum_tile
#include "column_sums.cuh"
// defines: OfOtherBlocks
#include "column_totals.cuh"
// defines: is_last_block
#include "last_block.cuh"
// defines: DEAD, unpooled
#include "unpool.cuh"
// defines: Odometer
#include "windows.cuh"

constexpr int WIDTH = 32, QUADS = WIDTH / 4, LANES = THREADS / QUADS;

__device__ inline float4 operator+(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// The four cells of a window, whose first is at `corner`.
__device__ __forceinline__ void write_cells(float* corner, float4 gradient, unsigned cells, unsigned pitch_h,
                                            unsigned pitch_w)
{
#pragma unroll
    for (int cell = 0; cell < 4; ++cell)
        *(float4*)(corner + cell / 2 * pitch_h + cell % 2 * pitch_w) = unpooled(gradient, cells, cell);
}

// Where the extent of dz is odd, the last row or column belongs to no window: the window before it
// writes zeros there.
__device__ __forceinline__ void write_edge(float* corner, bool row, bool column, unsigned pitch_h, unsigned pitch_w)
{
#pragma unroll 1
    for (int i = 0; i < 3; ++i) {
        if (row && (i < 2 || column)) *(float4*)(corner + 2 * pitch_h + i * pitch_w) = make_float4(0.f, 0.f, 0.f, 0.f);
        if (column && i < 2) *(float4*)(corner + i * pitch_h + 2 * pitch_w) = make_float4(0.f, 0.f, 0.f, 0.f);
    }
}

// What of dy goes to any cell.
__device__ inline float4 alive(float4 dy, unsigned cells)
{
    return make_float4((cells & 255) < DEAD ? dy.x : 0.f, (cells >> 8 & 255) < DEAD ? dy.y : 0.f,
                       (cells >> 16 & 255) < DEAD ? dy.z : 0.f, cells >> 24 < DEAD ? dy.w : 0.f);
}

// (P, Q) is the extent of dz, K a multiple of 4.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_maxpool_grad_sums(float* __restrict__ db, float* sums, float* __restrict__ dz, const float* __restrict__ dy,
                             const unsigned char* __restrict__ index, unsigned rows, unsigned K,
                             unsigned rows_per_slice, int P, int Q)
{
    unsigned tiles = (K + WIDTH - 1) / WIDTH, slices = gridDim.x / tiles;
    unsigned slice = blockIdx.x / tiles, tile = blockIdx.x % tiles, lane = threadIdx.x / QUADS;
    unsigned k = tile * WIDTH + threadIdx.x % QUADS * 4, end = min(rows, (slice + 1) * rows_per_slice);
    int pools_h = P / 2, pools_w = Q / 2;
    Odometer window(slice * rows_per_slice + lane, pools_h, pools_w), step(LANES, pools_h, pools_w);
    float4 total = make_float4(0.f, 0.f, 0.f, 0.f);
    if (k < K)  // every thread must reach the barriers below
#pragma unroll 1
        for (unsigned row = slice * rows_per_slice + lane; row < end; row += LANES) {
            float4 gradient = *(const float4*)(dy + row * K + k);
            unsigned cells = *(const unsigned*)(index + row * K + k);
            int p = 2 * window.middle, q = 2 * window.low;
            float* corner = dz + ((window.high * P + p) * Q + q) * K + k;
            write_cells(corner, gradient, cells, Q * K, K);
            if (p + 3 == P || q + 3 == Q) write_edge(corner, p + 3 == P, q + 3 == Q, Q * K, K);
            total = total + alive(gradient, cells);
            window.add(step, pools_h, pools_w);
        }
    float4* totals = (float4*)totals_of_lanes();  // one for each thread
    totals[threadIdx.x] = total;
    for (int half = LANES / 2; half > 0; half /= 2) {
        __syncthreads();  // waits for the totals of the lanes that are added now
        if (lane < half) totals[threadIdx.x] = totals[threadIdx.x] + totals[threadIdx.x + half * QUADS];
    }
    if (lane == 0 && k < K) *(float4*)((slices > 1 ? sums + slice * K : db) + k) = totals[threadIdx.x];
    if (slices > 1 && is_last_block(tile, slices)) sum_tile(db, OfOtherBlocks{sums}, K, WIDTH, tile, 0, slices);
}
