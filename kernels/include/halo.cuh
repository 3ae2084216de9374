// A convolution at stride 1 on tensor cores, of windows whose cells lie in shared memory:
//
//   y (windows, N) = patches of the images (windows, R S depth) · filters (R S depth, N)
//
// tensor.cuh copies the patches of a block to shared memory, slab by slab: each cell R · S times, and
// each copy is split or rounded again by every warp that reads it. Here a block takes whole rows of windows,
// and the cells that they meet, with the halo around them, are brought to shared memory once for all taps,
// already as factors. A tap is then only an offset, the same for all rows of the product. What is
// left in the main loop is to load factors and to multiply; the filters come by asynchronous copies as before.
//
// The channels of the cells come by TILE_K: one slab of filters for each tap, then the next channels.
// The rows of several images follow one another, each with the halo below it.
//
// The product is turned around: rows of the matrix instruction are filters, and its columns are windows.
// Then a thread's factors of a cell are neighbours in registers as they come from memory, and its results
// are four neighbouring filters of each window.
//
//   block    TILE_M windows × TILE_N filters
//   warp     WARP_M × 32
//   thread   WARP_M / 4 windows, by fours that are neighbours, × 4 filters
//
// A cell is a row of TILE_K factors, without gaps. Neighbouring groups of lanes read the cells of neighbouring
// windows, so that no two meet a bank.
//
// Of the compiler's command line: as for tensor.cuh.

constexpr int WARP_N = 32, WARPS_N = TILE_N / WARP_N;
constexpr int THREAD_M = WARP_M / 4, THREAD_N = 4;
static_assert(TILE_M % WARP_M == 0 && TILE_N % WARP_N == 0, "warps cover the tile");
static_assert(TILE_M / WARP_M * WARPS_N * 32 == THREADS, "one warp for each part of the tile");
constexpr int SLAB = TILE_N * TILE_K + 32;

// defines: copy_quad
#include "copies.cuh"
// defines: first_of_group, Quads
#include "slabs.cuh"

__device__ inline int first_m() { return threadIdx.x / 32 / WARPS_N * WARP_M + threadIdx.x % 4 * 4; }
__device__ inline int first_n() { return threadIdx.x / 32 % WARPS_N * WARP_N + first_of_group(threadIdx.x % 32 / 4); }
__device__ constexpr int row_of(int i) { return i % 4 + i / 4 * 16; }
__device__ constexpr int column_of(int j) { return j; }

// defines: Factors, load_factors, add_products, as_read
#include "factors.cuh"
// defines: compute
#include "finite.cuh"
// defines: Windows, Odometer, Place
#include "windows.cuh"
// defines: Halo
#include "cells.cuh"

constexpr int CELL = TILE_K;  // words of a cell in each array of factors

// The filters (R, S, C, K) by slabs, TILE_K channels of a tap each, the taps in turn. The columns of
// the product are filters. Or, TURNED, they are channels, k counts filters, and the last tap comes first.
template <bool TURNED> struct TapFilters {
    using Share = Quads<TILE_N, TURNED>;
    const float* weight;
    int taps, tap = 0, k_left;
    unsigned of_tap, of_slab;
    int to;
    unsigned at[Share::COUNT];

    __device__ TapFilters(const float* weight, int taps, int C, int K, unsigned first_column)
        : weight(weight), taps(taps), k_left((TURNED ? K : C) - Share::k()), of_tap(C * K),
          of_slab(TURNED ? TILE_K : TILE_K * K), to(Share::place(Share::row(), Share::k()))
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            unsigned column = first_column + Share::row() + Share::rows_beyond(i), k = Share::k() + Share::k_beyond(i);
            at[i] = TURNED ? min(column, (unsigned)C - 1) * K + k : k * K + min(column, (unsigned)K - 4);
        }
    }

    __device__ void copy(float* slab)
    {
        const float* from = weight + (TURNED ? taps - 1 - tap : tap) * of_tap;
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i)
            copy_quad<true>(slab + to + Share::apart(i), from + at[i], Share::k_beyond(i) < k_left);
        if (++tap == taps) tap = 0, weight += of_slab, k_left -= TILE_K;
    }
};

// A thread's sums: of filter f, windows of the warp's `part` of 32; [j] and [4 + j] are those of column 2 t and
// 2 t + 1 of the instruction's matrix j, where t is the lane's number in its group.
using Accumulators = float[4][WARP_M / 32][8];

// The window, in its part of 32, of column `column` of matrix j: two matrices have the first and the second
// half of four windows' four neighbours.
__device__ constexpr int window_of(int j, int column) { return j / 2 * 16 + column / 2 * 4 + j % 2 * 2 + column % 2; }

// Which of the accumulators of a part has window row_of(i): the inverse, for a thread's two columns.
__device__ constexpr int place_of(int i) { return i % 2 * 4 + i / 4 % 2 * 2 + i / 2 % 2; }

// sums = the products of all taps and channels. slabs are STAGES · SLAB floats of shared memory.
template <class Cells, class Filters>
__device__ void multiply_windows(float (&sums)[THREAD_M][THREAD_N], const Cells& halo, unsigned first_window,
                                 unsigned last_window, Filters& filters, float* slabs)
{
    const Windows& windows = halo.windows;
    constexpr int PARTS = WARP_M / 32;
    int cells[PARTS * 4], warp = threadIdx.x / 32;
#pragma unroll
    for (int i = 0; i < PARTS * 4; ++i) {
        unsigned window = first_window + warp / WARPS_N * WARP_M + i / 4 * 32 + window_of(i % 4, threadIdx.x % 32 / 4);
        cells[i] = halo.cell(min(window, last_window)) + threadIdx.x % 4 * 4;
    }
    Accumulators products = {};
    int taps = windows.R * windows.S, left = (windows.channels + TILE_K - 1) / TILE_K * taps;  // slabs to be copied
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage, --left) {
        if (left > 0) filters.copy(slabs + stage * SLAB);
        asm volatile("cp.async.commit_group;");
    }
    int current = 0, next = STAGES - 1;
    typename Filters::Share::Fragment rows(warp % WARPS_N * WARP_N);
#pragma unroll 1
    for (int channel = 0; channel < windows.channels; channel += TILE_K) {
        __syncthreads();  // nobody reads the channels before any more
        halo.copy(channel);
        asm volatile("cp.async.wait_all;" ::: "memory");
        halo.convert();
        int r = 0, s = 0;
#pragma unroll 1
        for (int tap = 0; tap < taps; ++tap, --left) {
            asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
            __syncthreads();  // the current slab is complete, and nobody reads the one before any more
            if (left > 0) filters.copy(slabs + next * SLAB);
            asm volatile("cp.async.commit_group;");
            Factors four[4];
            load_factors(four, rows, slabs + current * SLAB);
            const unsigned* of_tap =
                halo.words + (r * windows.dilation_h * halo.columns + s * windows.dilation_w) * CELL;
#pragma unroll
            for (int part = 0; part < PARTS; ++part) {
                Factors of_cells[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) of_cells[j] = Factors(of_tap + cells[part * 4 + j], halo.apart);
                add_products(four, of_cells,
                             [&](int i, int j, int column) -> float& { return products[i][part][column * 4 + j]; });
            }
            bool carry = s + 1 == windows.S;
            s = carry ? 0 : s + 1, r += carry;
            current = current + 1 == STAGES ? 0 : current + 1;
            next = next + 1 == STAGES ? 0 : next + 1;
        }
    }
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) sums[i][j] = products[j][i / 8][place_of(i)];
}

// The same in float32 arithmetic, of factors as a tensor core reads them, from memory.
template <class Order, bool TURNED>
__device__ void multiply_windows_plainly(float (&sums)[THREAD_M][THREAD_N], const float* images, const float* weight,
                                         const Windows& windows, int C, int K, unsigned first_window,
                                         unsigned last_window, unsigned first_column)
{
    int n = first_column + first_n(), columns = TURNED ? C : K;
#pragma unroll 1
    for (int i = 0; i < THREAD_M; ++i) {
        Place place = Order::of(Odometer(min(first_window + first_m() + row_of(i), last_window), windows.P, windows.Q));
        float row[THREAD_N] = {};
#pragma unroll 1
        for (int tap = 0; tap < windows.R * windows.S; ++tap) {
            int h = place.row + windows.first_h + tap / windows.S * windows.dilation_h;
            int w = place.column + windows.first_w + tap % windows.S * windows.dilation_w;
            if (!windows.inside(h, w)) continue;
            const float* cell = images + windows.cell(place.image, h, w);
            const float* filters = weight + (TURNED ? windows.R * windows.S - 1 - tap : tap) * (C * K);
#pragma unroll 1
            for (int k = 0; k < windows.channels; ++k)
#pragma unroll
                for (int j = 0; j < THREAD_N; ++j) {
                    int column = min(n + column_of(j), columns - 1);
                    float b = filters[TURNED ? column * K + k : k * K + column];
                    row[j] = fmaf(as_read(cell[k]), as_read(b), row[j]);
                }
        }
#pragma unroll
        for (int other = 0; other < THREAD_M; ++other)  // a register has no index
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j) sums[other][j] = other == i ? row[j] : sums[other][j];
    }
}

// The block's tile: `of_tile` windows, whole rows of them, which meet at most `rows` rows of cells. C and K
// are those of the weight. `store` gets the sums, the tile's first window and column, and the end of its windows.
template <class Order, bool TURNED, class Store>
__device__ __forceinline__ void multiply_tile(const float* images, const float* weight, const Windows& windows, int C,
                                              int K, unsigned of_tile, int rows, Store store)
{
    extern __shared__ __align__(16) unsigned cells[];
    __align__(16) __shared__ float slabs[STAGES * SLAB];
    unsigned tiles = ((TURNED ? C : K) + TILE_N - 1) / TILE_N;
    unsigned m = blockIdx.x / tiles * of_tile, n = blockIdx.x % tiles * TILE_N;
    unsigned last = min(windows.N * windows.P * windows.Q, m + of_tile) - 1;
    float sums[THREAD_M][THREAD_N];
    compute(
        sums, true,
        [&] {
            Halo<Order, TILE_K, CELL, Factors> halo(images, windows, cells, m, rows);
            halo.end_with(last);
            TapFilters<TURNED> filters(weight, windows.R * windows.S, C, K, n);
            multiply_windows(sums, halo, m, last, filters, slabs);
        },
        [&] { multiply_windows_plainly<Order, TURNED>(sums, images, weight, windows, C, K, m, last, n); });
    store(sums, m, n, last + 1);
}
