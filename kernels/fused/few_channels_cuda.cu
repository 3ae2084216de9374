// A convolution of images with few channels, finished with bias and activation, directly:
//
//   y[n, p, q, k] = f(Σ x[n, h, w, c] · weight[r, s, c, k] + b[k])     over r, s, c
//
//   where  h = p · stride_h + r · dilation_h - top,  w = q · stride_w + s - left
//
// A product of matrices has rows of R S C values here, 25 or 27: too short for its slabs, whose patches
// copy each value of x up to R S times. So the rows of the image that a block needs (with their padding)
// and the weights are in shared memory, and a thread has the sums of WINDOWS neighbouring windows for four
// filters in registers: a value that it has loaded serves four filters and all windows that meet it.
//
// Block: some rows of windows of an image. Neighbouring threads differ in their filters, so that they
// write the results of a window together.
//
// Of the compiler's command line: TAPS = S · C, those of a filter's row; NEXT = stride_w · C, from a
// window to the next; WINDOWS of a thread; QUADS, whether filters come in fours; FUNCTION, the number of f.

// defines: value
#include "activations.cuh"

constexpr int FLOATS = 10240;  // of shared memory

// `high` rows of an image from `top` on, into shared memory: `wide` floats of each from `left` on, zeros
// outside of the image, which has H rows of `floats`.
__device__ __forceinline__ void load_band(float* band, const float* __restrict__ image, int high, int wide, int top,
                                          int left, int H, int floats)
{
    int row = threadIdx.x / wide, at = threadIdx.x - row * wide;
    int rows = blockDim.x / wide, rest = blockDim.x - rows * wide;  // from a value of this thread to its next
#pragma unroll 4
    for (int i = threadIdx.x; i < high * wide; i += blockDim.x) {
        int h = top + row, w = left + at;
        bool inside = (unsigned)h < (unsigned)H && (unsigned)w < (unsigned)floats;
        band[i] = inside ? image[h * floats + w] : 0.f;
        row += rows, at += rest;
        if (at >= wide) at -= wide, ++row;
    }
}

// `floats` and `left` count floats of a row of x, `wide` those of a row in shared memory.
extern "C" __global__ void __launch_bounds__(256, 3)
    conv2d_bias_activation_few_channels(float* __restrict__ y, const float* __restrict__ x,
                                        const float* __restrict__ weight, const float* __restrict__ b, float alpha,
                                        int H, int floats, int P, int Q, int K, int R, int stride_h, int top, int left,
                                        int dilation_h, int rows, int wide)
{
    __align__(16) __shared__ float memory[FLOATS];
    int n = blockIdx.x, first = blockIdx.y * rows;
    rows = min(rows, P - first);
    int groups = (K + 3) / 4, padded = 4 * groups, columns = (Q + WINDOWS - 1) / WINDOWS;
    float* weights = memory;
    float* band = memory + R * TAPS * padded;
#pragma unroll 4
    for (int i = threadIdx.x; i < R * TAPS * padded; i += blockDim.x) {
        int tap = i / padded, k = i - tap * padded;
        weights[i] = QUADS ? weight[i] : k < K ? weight[tap * K + k] : 0.f;
    }
    int high = (rows - 1) * stride_h + (R - 1) * dilation_h + 1;
    load_band(band, x + n * H * floats, high, wide, first * stride_h - top, -left, H, floats);
    __syncthreads();  // the weights and the band are complete

    for (int item = threadIdx.x; item < rows * columns * groups; item += blockDim.x) {
        int place = item / groups, k = (item - place * groups) * 4;
        int row = place / columns, q = (place - row * columns) * WINDOWS;
        float bias[4], sums[WINDOWS][4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            bias[e] = QUADS || k + e < K ? __ldg(b + k + e) : 0.f;
#pragma unroll
            for (int i = 0; i < WINDOWS; ++i) sums[i][e] = 0.f;
        }
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
            if (QUADS) {
                if (q + i < Q) *(float4*)(to + i * K) = make_float4(four[0], four[1], four[2], four[3]);
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (q + i < Q && k + e < K) to[i * K + e] = four[e];
            }
        }
    }
}
