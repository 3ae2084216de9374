// A convolution of images with few channels, finished with bias, activation and dropout, directly, and the
// gradients of its weight and bias:
//
//   y[n, p, q, k]       = f(Σ x[n, h, w, c] · weight[r, s, c, k] + b[k])     over r, s, c
//   dweight[r, s, c, k] = Σ dz[n, p, q, k] · x[n, h, w, c]                   over n, p, q
//   db[k]               = Σ dz[n, p, q, k]                                   over n, p, q
//
//   where  h = p · stride_h + r · dilation_h - top,  w = q · stride_w + s - left,  dz = scale · dy · slope of f at y
//
// A product of matrices has rows or columns of R S C values here, 25 or 27: too short for its tiles, whose
// patches copy each value of x up to R S times. So the rows of the image that a block needs (with their
// padding) are in shared memory, and a value that a thread has loaded from there serves four filters and
// all windows that meet it:
//
//   y        the weights are in shared memory too; a thread has the sums of WINDOWS neighbouring windows for
//            four filters in registers
//   dweight  a thread has the sums of ROWS rows of taps for four filters in registers; it loads the dy and
//            y of WINDOWS neighbouring windows, each value once if ROWS is R, and dz is never stored
//
// Neighbouring threads differ in their filters, so that they load or store the values of a window together.
//
// Of the compiler's command line: TAPS = S · C, those of a filter's row; NEXT = stride_w · C, from a window
// to the next; WINDOWS; FOURS, whether filters come in fours; FUNCTION, the number of f; DROPS; ROWS.

// defines: value, gradient_at_result
#include "activations.cuh"
// defines: Dropping
#include "dropping.cuh"
// defines: sum_parts_of_both
#include "parts_of_both.cuh"
// defines: load_four
#include "split.cuh"
// defines: FLOATS, stage, load_band
#include "stage.cuh"

constexpr int SUMS = ROWS * TAPS + 1;  // of a thread, for each of four filters; the last is that of dz
constexpr int EXCHANGED = 8;           // of them, at a time

// A block computes some rows of windows of an image. `floats` and `left` count floats of a row of x, `wide`
// those of a row in shared memory.
extern "C" __global__ void __launch_bounds__(256, 3)
    conv2d_bias_activation_few_channels(float* __restrict__ y, const float* __restrict__ x,
                                        const float* __restrict__ weight, const float* __restrict__ b, float alpha,
                                        const long long* __restrict__ step, unsigned threshold, float scale,
                                        unsigned long long seed, unsigned stream, unsigned counter, int H, int floats,
                                        int P, int Q, int K, int R, int stride_h, int top, int left, int dilation_h,
                                        int rows, int wide)
{
    __align__(16) __shared__ float memory[FLOATS];
    int n = blockIdx.x, first = blockIdx.y * rows;
    rows = min(rows, P - first);
    int groups = (K + 3) / 4, padded = 4 * groups, columns = (Q + WINDOWS - 1) / WINDOWS;
    Dropping dropping{step, threshold, scale, seed, stream, counter};
    float* weights = memory;
    float* band = memory + R * TAPS * padded;
    stage(
        R * TAPS * padded,
        [&](int i) {
            int tap = FOURS ? 0 : i / padded, k = i - tap * padded;
            return FOURS || k < K ? weight[tap * K + k] : 0.f;
        },
        [&](int i, float value) { weights[i] = value; });
    int high = (rows - 1) * stride_h + (R - 1) * dilation_h + 1;
    load_band(band, x + n * H * floats, high, wide, first * stride_h - top, -left, H, floats);
    __syncthreads();  // the weights and the band are complete

    for (int item = threadIdx.x; item < rows * columns * groups; item += blockDim.x) {
        int place = item / groups, k = (item - place * groups) * 4;
        int row = place / columns, q = (place - row * columns) * WINDOWS;
        float4 four_of_b = load_four<FOURS>(b + k, K - k);
        const float bias[] = {four_of_b.x, four_of_b.y, four_of_b.z, four_of_b.w};
        float sums[WINDOWS][4];
#pragma unroll
        for (int i = 0; i < WINDOWS; ++i)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][e] = 0.f;
        const float* cells = band + row * stride_h * wide + q * NEXT;
        const float* filters = weights + k;
#pragma unroll 1
        for (int r = 0; r < R; ++r) {
#pragma unroll
            for (int tap = 0; tap < TAPS; ++tap) {
                float4 quad = *(const float4*)(filters + tap * padded);
                const float four[] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
                for (int i = 0; i < WINDOWS; ++i)
#pragma unroll
                    for (int e = 0; e < 4; ++e) sums[i][e] = fmaf(cells[i * NEXT + tap], four[e], sums[i][e]);
            }
            cells += dilation_h * wide, filters += TAPS * padded;
        }
        float* to = y + ((n * P + first + row) * Q + q) * K + k;
#pragma unroll
        for (int i = 0; i < WINDOWS; ++i) {
            float four[4];
#pragma unroll
            for (int e = 0; e < 4; ++e) four[e] = value(FUNCTION, sums[i][e] + bias[e], alpha);
            if (FOURS) {
                float4 quad = make_float4(four[0], four[1], four[2], four[3]);
                if (q + i < Q) *(float4*)(to + i * K) = dropping(quad, unsigned(to + i * K - y));
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (q + i < Q && k + e < K) to[i * K + e] = four[e];
            }
        }
    }
}

// sums += dz · the cells of each window, a row of which is `pitch` floats below the one before.
template <bool ALL>
__device__ __forceinline__ void add_products(float (&sums)[SUMS][4], const float (&dz)[WINDOWS][4], const float* cells,
                                             int pitch, int windows)
{
#pragma unroll
    for (int i = 0; i < WINDOWS; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e)
            if (ALL || i < windows) sums[ROWS * TAPS][e] += dz[i][e];
#pragma unroll
    for (int r = 0; r < ROWS; ++r, cells += pitch)
#pragma unroll
        for (int at = 0; at < (WINDOWS - 1) * NEXT + TAPS; ++at)
#pragma unroll
            for (int i = 0; i < WINDOWS; ++i) {
                int tap = at - i * NEXT;
                if (tap >= 0 && tap < TAPS && (ALL || i < windows))
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        sums[r * TAPS + tap][e] = fmaf(dz[i][e], cells[at], sums[r * TAPS + tap][e]);
            }
}

// The part of a block, which goes on with every gridDim.x-th of the N · `bands` bands of `rows` rows of
// windows. A thread is one of `lanes` that share the windows.
//
//   dweight, db   of part blockIdx.x, which begins at blockIdx.x · pitch
extern "C" __global__ void __launch_bounds__(128, FOURS ? 3 : 2)
    conv2d_bias_activation_grad_weight_few_channels(float* __restrict__ dweight, float* __restrict__ db,
                                                    const float* __restrict__ dy, const float* __restrict__ y,
                                                    const float* __restrict__ x, float alpha, float scale, int N, int H,
                                                    int floats, int P, int Q, int K, int R, int stride_h, int top,
                                                    int left, int dilation_h, int rows, int bands, int lanes,
                                                    int columns, int wide, unsigned pitch)
{
    __align__(16) __shared__ float memory[FLOATS];
    int groups = (K + 3) / 4, items = groups * (R / ROWS);
    int item = threadIdx.x % items, lane = threadIdx.x / items;
    int k = item % groups * 4, r = item / groups * ROWS;
    float sums[SUMS][4];
#pragma unroll
    for (int i = 0; i < SUMS; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][e] = 0.f;

    for (int task = blockIdx.x; task < N * bands; task += gridDim.x) {
        int n = task / bands, first = (task - n * bands) * rows, count = min(rows, P - first);
        int high = (count - 1) * stride_h + (R - 1) * dilation_h + 1;
        __syncthreads();  // nobody reads the band before any more
        load_band(memory, x + n * H * floats, high, wide, first * stride_h - top, -left, H, floats);
        __syncthreads();  // the band is complete
        unsigned first_row = n * P + first;
#pragma unroll 1
        for (int place = lane; place < count * columns && lane < lanes; place += lanes) {
            int row = place / columns, q = (place - row * columns) * WINDOWS, windows = min(WINDOWS, Q - q);
            unsigned at = (first_row + row) * Q * K + q * K + k;
            float dz[WINDOWS][4];
#pragma unroll
            for (int i = 0; i < WINDOWS; ++i) {
                unsigned window = at + min(i, windows - 1) * K;
                float4 gradient = load_four<FOURS>(dy + window, K - k), result = load_four<FOURS>(y + window, K - k);
                dz[i][0] = gradient_at_result(FUNCTION, scale * gradient.x, result.x, alpha);
                dz[i][1] = gradient_at_result(FUNCTION, scale * gradient.y, result.y, alpha);
                dz[i][2] = gradient_at_result(FUNCTION, scale * gradient.z, result.z, alpha);
                dz[i][3] = gradient_at_result(FUNCTION, scale * gradient.w, result.w, alpha);
            }
            const float* corner = memory + (row * stride_h + r * dilation_h) * wide + q * NEXT;
            if (windows == WINDOWS)
                add_products<true>(sums, dz, corner, dilation_h * wide, windows);
            else
                add_products<false>(sums, dz, corner, dilation_h * wide, windows);
        }
    }

    // The lanes' sums, added up in their order, some at a time.
    dweight += blockIdx.x * pitch, db += blockIdx.x * pitch;
    int values = 4 * items, padded = 4 * groups;
#pragma unroll
    for (int begin = 0; begin < SUMS; begin += EXCHANGED) {
        __syncthreads();  // nobody reads the band, or the sums before, any more
        if (lane < lanes)
#pragma unroll
            for (int i = begin; i < min(begin + EXCHANGED, SUMS); ++i)
                *(float4*)(memory + ((i - begin) * lanes + lane) * values + 4 * item) =
                    make_float4(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
        __syncthreads();  // the sums of all lanes
        for (int i = threadIdx.x; i < min(EXCHANGED, SUMS - begin) * values; i += blockDim.x) {
            int one = i / values, value = i - one * values, row = value / padded, filter = value - row * padded;
            float total = 0.f;
#pragma unroll 4
            for (int other = 0; other < lanes; ++other) total += memory[(one * lanes + other) * values + value];
            int tap = begin + one;
            if (tap == SUMS - 1) {
                if (row == 0 && filter < K) db[filter] = total;
            } else if (filter < K) {
                dweight[(row * ROWS * TAPS + tap) * K + filter] = total;
            }
        }
    }
}
