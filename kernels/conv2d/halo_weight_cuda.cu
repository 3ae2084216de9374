// The gradient of the weight of a convolution at stride 1 on tensor cores, with each cell in shared memory once:
//
//   dweight (R S C, K) = patches of x, transposed (R S C, N P Q) · dy (N P Q, K)
//
//   block    32 channels × 32 filters, for all taps. It takes `high` rows of windows of an image, with the cells
//            of x that they meet and their dy, then the next ones of its part.
//   warp     a row of the filter, TAPS taps: WARP_C channels × 32 filters of each. SLICES warps share the
//            windows, and add up in the end.
//   thread   4 filters × WARP_C / 4 channels of each tap
//
// Windows are counted along with the cells that are their first ones, so that a tap is an offset here too: behind
// each row of windows come some whose dy is zero. Rows of the matrix instruction are filters, and its columns
// are channels.
//
// dy lies in the order in which lanes hold fragments. x lies by cells, 40 words apart: eight neighbouring channels of
// four neighbouring cells meet each bank once. In bfloat16 both stay float32, since two terms that share a
// register belong to different cells.
//
// Grid: x counts the blocks of channels and filters, y the parts of the windows; (parts, …) is written, and
// `sum_parts` follows. Of the compiler's command line: FACTOR_BITS, THREADS, TAPS, WARP_C, SLICES,
// RESIDENT_BLOCKS.

// defines: Factors, add_products, as_read
#include "factors.cuh"
// defines: Windows, ByImage
#include "windows.cuh"
// defines: Halo
#include "cells.cuh"
// defines: all_finite
#include "finite.cuh"
// defines: sum_parts
#include "split.cuh"

constexpr int BLOCK = 32;  // channels and filters of a block
constexpr int SLAB = 16;   // windows that are multiplied at once
constexpr int COLUMNS = WARP_C / 8;
constexpr int CELL = BLOCK + 8;

// The value as it waits in shared memory.
struct Waiting {
    static constexpr int ARRAYS = FACTOR_BITS == 16 ? 1 : Factors::ARRAYS;
    unsigned words[ARRAYS][4];

    __device__ explicit Waiting(const float (&values)[4])
    {
#if FACTOR_BITS == 16
#pragma unroll
        for (int e = 0; e < 4; ++e) words[0][e] = __float_as_uint(values[e]);
#else
        Factors factors(values);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            words[0][e] = factors.big[e];
#if FACTOR_BITS == 32
            words[1][e] = factors.small[e];
#endif
        }
#endif
    }

    __device__ void store(unsigned* to, int apart) const
    {
#pragma unroll
        for (int a = 0; a < ARRAYS; ++a)
            *(uint4*)(to + a * apart) = make_uint4(words[a][0], words[a][1], words[a][2], words[a][3]);
    }
};

// Factors of four terms that waited as words[array][term].
__device__ __forceinline__ Factors factors_of(const unsigned (&words)[Waiting::ARRAYS][4])
{
    Factors factors;
#if FACTOR_BITS == 16
    factors.first = packed(__uint_as_float(words[0][0]), __uint_as_float(words[0][1]));
    factors.second = packed(__uint_as_float(words[0][2]), __uint_as_float(words[0][3]));
#else
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        factors.big[e] = words[0][e];
#if FACTOR_BITS == 32
        factors.small[e] = words[1][e];
#endif
    }
#endif
    return factors;
}

// A lane's fragments of dy: half a slab's windows, of two of its four filters, are four words. Lane g · 4 + t holds
// filters 4 g … 4 g + 3 of windows t, t + 4, t + 8, t + 12. The lanes' places are mixed, so that those which
// write filters of one window meet different banks.
__device__ inline int fragment_of(int half, int pair, int g, int t)
{
    return ((half * 2 + pair) * 32 + (g * 4 + (t ^ g / 2))) * 4;
}

// dy of `high` rows of windows, `columns` to a row with those beyond the image, from row `row` of image `image` on.
__device__ void fill_dy(unsigned* words, int apart, const float* __restrict__ dy, int image, int row, int P, int Q,
                        int K, int filter, int high, int columns, int slabs)
{
    constexpr int LOADS = 4, STEP = THREADS / 8;  // loads of a thread that are under way together, and their windows
    int g = threadIdx.x % 8, p = 0, q = threadIdx.x / 8;
    high = filter + 4 * g < K ? min(high, P - row) : 0;
    dy += (image * P + row) * Q * K + filter + 4 * g;
#pragma unroll 1
    for (int first = threadIdx.x / 8; first < slabs * SLAB; first += LOADS * STEP) {
        float4 quads[LOADS];
#pragma unroll
        for (int e = 0; e < LOADS; ++e) {
            for (; q >= columns; q -= columns) ++p;
            quads[e] = p < high && q < Q ? *(const float4*)(dy + (p * Q + q) * K) : make_float4(0.f, 0.f, 0.f, 0.f);
            q += STEP;
        }
#pragma unroll
        for (int e = 0; e < LOADS; ++e) {
            int window = first + e * STEP, fourth = window / 4;
            if (window >= slabs * SLAB) break;
            const float values[] = {quads[e].x, quads[e].y, quads[e].z, quads[e].w};
            Waiting waiting(values);
            unsigned* to = words + window / SLAB * (SLAB * BLOCK) + fourth % 2 * 2;
#pragma unroll
            for (int a = 0; a < Waiting::ARRAYS; ++a)
#pragma unroll
                for (int pair = 0; pair < 2; ++pair)
                    *(uint2*)(to + a * apart + fragment_of(fourth / 2 % 2, pair, g, window % 4)) =
                        make_uint2(waiting.words[a][2 * pair], waiting.words[a][2 * pair + 1]);
        }
    }
}

// sums of the taps from FIRST on += filters · channels, over a slab. The cells of tap s lie s · `of_tap` words behind
// of_row, their second array `apart`. As many taps take turns as have four matrices of channels.
template <int FIRST = 0>
__device__ __forceinline__ void multiply_taps(float (&sums)[TAPS][4][COLUMNS][2], const Factors (&filters)[4],
                                              const unsigned* of_row, int apart, int of_tap)
{
    constexpr int COUNT = TAPS - FIRST < 4 / COLUMNS ? TAPS - FIRST : 4 / COLUMNS;
    Factors of_channels[COUNT * COLUMNS];
#pragma unroll
    for (int s = 0; s < COUNT; ++s) {
        unsigned words[COLUMNS][Waiting::ARRAYS][4];
#pragma unroll
        for (int a = 0; a < Waiting::ARRAYS; ++a)
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const unsigned* at = of_row + a * apart + (FIRST + s) * of_tap + 4 * k * CELL;
#pragma unroll
                for (int j = 0; j < COLUMNS; ++j) words[j][a][k] = at[8 * j];
            }
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) of_channels[s * COLUMNS + j] = factors_of(words[j]);
    }
    add_products(filters, of_channels,
                 [&](int i, int j, int column) -> float& { return sums[FIRST + j / COLUMNS][i][j % COLUMNS][column]; });
    if constexpr (FIRST + COUNT < TAPS) multiply_taps<FIRST + COUNT>(sums, filters, of_row, apart, of_tap);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    conv2d_grad_weight_halo(float* __restrict__ dweight, const float* __restrict__ dy, const float* __restrict__ x,
                            unsigned N, int H, int W, int C, int P, int Q, int K, int R, int top, int left,
                            int dilation_h, int dilation_w, int high, int of_part)
{
    extern __shared__ __align__(16) unsigned shared[];
    Windows windows{N, H, W, C, C, P, Q, R, TAPS, -top, -left, 1, 1, dilation_h, dilation_w};
    int blocks = (K + BLOCK - 1) / BLOCK;
    int channel = blockIdx.x / blocks * BLOCK, filter = blockIdx.x % blocks * BLOCK;
    int columns = Q + (TAPS - 1) * dilation_w, rows = high + (R - 1) * dilation_h;
    int slabs = (high * columns + SLAB - 1) / SLAB;
    int cells = slabs * SLAB + (rows - high) * columns + (TAPS - 1) * dilation_w;  // with zeros that a tap meets
    unsigned* of_dy = shared + Waiting::ARRAYS * cells * CELL;
    int apart_dy = slabs * SLAB * BLOCK;

    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int slice = warp % SLICES, half = warp / SLICES % (BLOCK / WARP_C), r = warp / SLICES / (BLOCK / WARP_C);
    float sums[TAPS][4][COLUMNS][2] = {};

    int of_image = (P + high - 1) / high, tiles = N * of_image;
    int first = blockIdx.y * of_part, end = min(tiles, first + of_part);
    for (int i = threadIdx.x; i < (cells - rows * columns) * CELL; i += THREADS)
#pragma unroll
        for (int a = 0; a < Waiting::ARRAYS; ++a) shared[(a * cells + rows * columns) * CELL + i] = 0u;
#pragma unroll 1
    for (int tile = first; tile < end; ++tile) {
        int image = tile / of_image, row = tile % of_image * high;
        __syncthreads();  // nobody reads the tile before any more
        Halo<ByImage, BLOCK, CELL, Waiting> halo(x, windows, shared, (image * P + row) * Q, rows,
                                                 cells - rows * columns);
        halo.copy(channel);
        asm volatile("cp.async.commit_group;");
        fill_dy(of_dy, apart_dy, dy, image, row, P, Q, K, filter, high, columns, slabs);
        asm volatile("cp.async.wait_all;" ::: "memory");
        halo.convert();
        __syncthreads();
#pragma unroll 1
        for (int slab = slice; slab < slabs; slab += SLICES) {
            Factors filters[4];
#pragma unroll
            for (int pair = 0; pair < 2; ++pair) {
                unsigned words[2][Waiting::ARRAYS][4];
#pragma unroll
                for (int a = 0; a < Waiting::ARRAYS; ++a)
#pragma unroll
                    for (int k = 0; k < 2; ++k) {
                        uint4 four =
                            *(const uint4*)(of_dy + a * apart_dy + slab * (SLAB * BLOCK) + fragment_of(k, pair, g, t));
                        words[0][a][2 * k] = four.x, words[1][a][2 * k] = four.y;
                        words[0][a][2 * k + 1] = four.z, words[1][a][2 * k + 1] = four.w;
                    }
                filters[2 * pair] = factors_of(words[0]), filters[2 * pair + 1] = factors_of(words[1]);
            }
            const unsigned* of_row = shared + (slab * SLAB + t + r * dilation_h * columns) * CELL + half * WARP_C + g;
            multiply_taps(sums, filters, of_row, cells * CELL, dilation_w * CELL);
        }
    }

    constexpr int COUNT = TAPS * 4 * 2 * COLUMNS;
    float (&all)[1][COUNT] = *(float (*)[1][COUNT])sums;
#pragma unroll 1
    for (int other = 1; other < SLICES; ++other) {
        __syncthreads();  // nobody reads the tile, or the slice before, any more
        float* of_lane = (float*)shared + warp / SLICES * (COUNT * 32) + threadIdx.x % 32;
        if (slice == other)
#pragma unroll
            for (int i = 0; i < COUNT; ++i) of_lane[i * 32] = all[0][i];
        __syncthreads();
        if (slice == 0)
#pragma unroll
            for (int i = 0; i < COUNT; ++i) all[0][i] += of_lane[i * 32];
    }

    bool plainly = __syncthreads_or(slice == 0 && !all_finite(all));
    if (slice > 0) return;
    dweight += blockIdx.y * (R * TAPS * C * K);
#pragma unroll
    for (int s = 0; s < TAPS; ++s)
#pragma unroll
        for (int j = 0; j < 2 * COLUMNS; ++j) {
            int c = channel + half * WARP_C + j % COLUMNS * 8 + 2 * t + j / COLUMNS, k = filter + 4 * g;
            if (c >= C || k >= K) continue;
            float four[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) four[i] = sums[s][i][j % COLUMNS][j / COLUMNS];
            if (plainly) {  // in float32 arithmetic, of factors as a tensor core reads them, from memory
#pragma unroll
                for (int e = 0; e < 4; ++e) four[e] = 0.f;
#pragma unroll 1
                for (int row = first * high; row < end * high; ++row) {
                    int image = row / (of_image * high), p = row % (of_image * high), h = p - top + r * dilation_h;
                    for (int q = 0; p < P && q < Q; ++q) {
                        int w = q - left + s * dilation_w;
                        if (!windows.inside(h, w)) continue;
                        float of_x = as_read(x[windows.cell(image, h, w) + c]);
#pragma unroll
                        for (int e = 0; e < 4; ++e)
                            four[e] = fmaf(of_x, as_read(dy[((image * P + p) * Q + q) * K + k + e]), four[e]);
                    }
                }
            }
            *(float4*)(dweight + ((r * TAPS + s) * C + c) * K + k) = make_float4(four[0], four[1], four[2], four[3]);
        }
}
