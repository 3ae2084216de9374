// The gradients of a convolution whose results are pooled by 2 × 2, where filters are small:
//
//   dweight[r, s, c, k] = Σ v · x[n, h, w, c],  db[k] = Σ v     over all v, a value of dy of filter k
//   dx[n, h, w, c]      = Σ v · weight[r, s, c, k]              over the v whose window reaches the cell
//
//   where v stands at the cell (p, q) that `index` names, h = p · stride_h + r · dilation_h - top, w alike
//
// A product of matrices multiplies dz, of which at least three values in four are 0. Here only the
// values of dy are multiplied: in a first step, the block lists each with the place of its window, and
// from then on nobody looks at cells. Images (with their padding), weights and lists are in shared
// memory. Values that are 0, as where a relu was closed, contribute nothing.
//
// Of the compiler's command line: RUN, the neighbouring taps (s, c) of a filter's row that a thread of
// the gradient of the weight has sums of; CHANNELS of x.

constexpr int PADDED_CHANNELS = (CHANNELS + 3) / 4 * 4;

// defines: sum_parts_of_both
#include "parts_of_both.cuh"
// defines: FLOATS, stage, load_band
#include "stage.cuh"
// defines: DEAD
#include "unpool.cuh"

// A value of dy, and where in the (padded) image its window begins; 0 if its window is dead.
struct Value {
    float value;
    int row, column, filter;
};

// The values of some rows of pooling windows of an image, from `first` on.
struct Values {
    const float* dy;
    const unsigned char* index;
    int first, pools_w, K, stride_h, stride_w;

    __device__ Value operator()(int i) const
    {
        int at = first * pools_w * K + i, cell = index[at];
        float value = dy[at];
        int window = i / K, down = window / pools_w, right = window - down * pools_w;
        return {cell < DEAD ? value : 0.f, (2 * (first + down) + cell / 2) * stride_h,
                (2 * right + cell % 2) * stride_w, i - window * K};
    }
};

// The part of a block: `bands` blocks share the pooling windows of an image, and each goes on with every
// gridDim.x / bands-th image. A thread has RUN sums of one filter, and is one of `lanes` that share the
// windows.
//
//   dweight, db   of part blockIdx.x, which begins at blockIdx.x · pitch
extern "C" __global__ void __launch_bounds__(512, 2)
    conv2d_maxpool_grad_weight_sparse(float* __restrict__ dweight, float* __restrict__ db, const float* __restrict__ dy,
                                      const unsigned char* __restrict__ index, const float* __restrict__ x, int N,
                                      int H, int W, int pools_h, int pools_w, int K, int R, int S, int stride_h,
                                      int stride_w, int top, int left, int dilation_h, int bands, int lanes,
                                      unsigned pitch)
{
    __align__(16) __shared__ float memory[FLOATS];
    int rows = (pools_h + bands - 1) / bands, first = blockIdx.x % bands * rows;
    rows = min(rows, pools_h - first);
    int windows = max(rows, 0) * pools_w;
    int high = (2 * rows - 1) * stride_h + (R - 1) * dilation_h + 1;  // rows of the image that they reach
    int wide = ((2 * pools_w - 1) * stride_w + S) * CHANNELS;         // floats of such a row
    float2* list = (float2*)memory;  // values, and the places of their windows as the bits of a float
    float* image = memory + 2 * windows * K;

    int taps = S * CHANNELS, runs = taps / RUN, items = K * R * runs;
    int item = threadIdx.x % items, lane = threadIdx.x / items;
    int k = item % K, r = item / K / runs, begin = item / K % runs * RUN;
    bool works = lane < lanes;
    float sums[RUN], total = 0.f;
#pragma unroll
    for (int i = 0; i < RUN; ++i) sums[i] = 0.f;

    int top_row = 2 * first * stride_h - top;
    for (int n = blockIdx.x / bands; n < N && windows > 0; n += gridDim.x / bands) {
        __syncthreads();  // nobody reads the image before any more
        Values values{
            dy + n * pools_h * pools_w * K, index + n * pools_h * pools_w * K, first, pools_w, K, stride_h, stride_w};
        stage<4>(windows * K, values, [&](int i, Value one) {
            int place = (one.row - 2 * first * stride_h) * wide + one.column * CHANNELS;
            list[i] = make_float2(one.value, __int_as_float(place));
        });
        load_band(image, x + n * H * W * CHANNELS, high, wide, top_row, -left * CHANNELS, H, W * CHANNELS);
        __syncthreads();  // the list and the image are complete
        const float* taps_of_thread = image + r * dilation_h * wide + begin;
#pragma unroll 4
        for (int window = lane; window < windows && works; window += lanes) {
            float2 one = list[window * K + k];
            const float* patch = taps_of_thread + __float_as_int(one.y);
            total += one.x;
#pragma unroll
            for (int i = 0; i < RUN; ++i) sums[i] = one.x == 0.f ? sums[i] : fmaf(one.x, patch[i], sums[i]);
        }
    }

    // The lanes' sums, added up in their order; the bias is one more.
    if (lanes > 1) {
        __syncthreads();  // nobody reads the last image any more
        if (works && lane > 0) {
            float* exchange = memory + (lane - 1) * (RUN + 1) * items + item;
#pragma unroll
            for (int i = 0; i < RUN; ++i) exchange[i * items] = sums[i];
            exchange[RUN * items] = total;
        }
        __syncthreads();  // the sums of the other lanes
        for (int other = 1; other < lanes && lane == 0; ++other) {
            const float* exchange = memory + (other - 1) * (RUN + 1) * items + item;
#pragma unroll
            for (int i = 0; i < RUN; ++i) sums[i] += exchange[i * items];
            total += exchange[RUN * items];
        }
    }
    if (lane > 0) return;
    dweight += blockIdx.x * pitch, db += blockIdx.x * pitch;
    if (item < K) db[k] = total;
#pragma unroll
    for (int i = 0; i < RUN; ++i) dweight[(r * taps + begin + i) * K + k] = sums[i];
}

// A value whose filter lies at `place`, seen from the tap of a cell at row 0 and column 0.
struct __align__(16) Listed {
    float value;
    int row, column, place;
};

// A block computes `rows` rows of an image. A thread has all channels of a cell, and is one of `shares` that
// share the values.
extern "C" __global__ void __launch_bounds__(1024)
    conv2d_maxpool_grad_input_sparse(float* __restrict__ dx, const float* __restrict__ dy,
                                     const unsigned char* __restrict__ index, const float* __restrict__ weight, int H,
                                     int W, int pools_h, int pools_w, int K, int R, int S, int stride_h, int stride_w,
                                     int top, int left, int rows, int shares)
{
    __align__(16) __shared__ float memory[FLOATS];
    int n = blockIdx.x, first_row = blockIdx.y * rows;
    rows = min(rows, H - first_row);
    // The pooling windows that reach these rows: 2 i + 1 ≥ the first p that does, and 2 i ≤ the last.
    int lowest = first_row + top - R + 1, highest = first_row + rows - 1 + top;
    int first = max(0, (lowest + stride_h - 1) / stride_h) / 2, last = min(pools_h - 1, highest / stride_h / 2);
    int windows = max(0, last - first + 1) * pools_w;
    // Between two taps lie 4 floats more than a multiple of 8, so that lanes beside each other meet other banks.
    int of_a_tap = (K * PADDED_CHANNELS + 7) / 8 * 8 + 4;
    float* weights = memory;
    Listed* list = (Listed*)(memory + (R * S + 1) * of_a_tap);
    int count = max(0, last - first + 1) * pools_w * K;
    stage(
        R * S * CHANNELS * K, [&](int i) { return weight[i]; },
        [&](int i, float value) {
            int row = i / K, tap = row / CHANNELS;
            weights[tap * of_a_tap + (i - row * K) * PADDED_CHANNELS + row - tap * CHANNELS] = value;
        });
    if (CHANNELS < PADDED_CHANNELS)
        for (int i = threadIdx.x; i < R * S * K; i += blockDim.x)
            for (int c = CHANNELS; c < PADDED_CHANNELS; ++c)
                weights[i / K * of_a_tap + i % K * PADDED_CHANNELS + c] = 0.f;
    float* zeros = weights + R * S * of_a_tap;  // what a window that does not reach the cell is multiplied by
    for (int i = threadIdx.x; i < of_a_tap; i += blockDim.x) zeros[i] = 0.f;
    Values values{
        dy + n * pools_h * pools_w * K, index + n * pools_h * pools_w * K, first, pools_w, K, stride_h, stride_w};
    stage(count, values, [&](int i, Value one) {
        int place = one.filter * PADDED_CHANNELS - (one.row * S + one.column) * of_a_tap;
        list[i] = {one.value, one.row, one.column, place};
    });
    __syncthreads();  // the weights and the list are complete

    int cells = rows * W, cell = threadIdx.x % cells, share = threadIdx.x / cells;
    int h = first_row + cell / W + top, w = cell % W + left, place = (h * S + w) * of_a_tap;
    float sums[PADDED_CHANNELS];
#pragma unroll
    for (int c = 0; c < PADDED_CHANNELS; ++c) sums[c] = 0.f;
    if (share < shares)
#pragma unroll 4
        for (int i = share; i < count; i += shares) {
            Listed one = list[i];
            bool reaches = (unsigned)(h - one.row) < (unsigned)R && (unsigned)(w - one.column) < (unsigned)S;
            const float4* quads = (const float4*)(reaches && one.value != 0.f ? weights + place + one.place : zeros);
#pragma unroll
            for (int c = 0; c < PADDED_CHANNELS; c += 4) {
                float4 quad = quads[c / 4];
                sums[c] = fmaf(one.value, quad.x, sums[c]);
                sums[c + 1] = fmaf(one.value, quad.y, sums[c + 1]);
                sums[c + 2] = fmaf(one.value, quad.z, sums[c + 2]);
                sums[c + 3] = fmaf(one.value, quad.w, sums[c + 3]);
            }
        }

    __syncthreads();  // nobody reads the weights any more
    if (share < shares)
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) memory[(share * cells + cell) * CHANNELS + c] = sums[c];
    __syncthreads();  // the sums of all shares
    dx += (n * H + first_row) * W * CHANNELS;
    for (int i = threadIdx.x; i < cells * CHANNELS; i += blockDim.x) {
        float sum = memory[i];
        for (int other = 1; other < shares; ++other) sum += memory[other * cells * CHANNELS + i];
        dx[i] = sum;
    }
}
