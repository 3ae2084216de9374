// A convolution of images with few channels whose results are pooled by 2 × 2, directly:
//
//   y[n, i, j, k] = f(largest of Σ x[n, h, w, c] · weight[r, s, c, k] + b[k])   over the four (p, q)
//
//   where  p = 2 i + cell / 2,  q = 2 j + cell % 2,  h = p · stride_h + r · dilation_h - top,  w = q · stride_w + s - left
//
// A product of matrices has rows of R S C values here, 25 or 9: too short for its slabs. So the image
// (with its padding) and the weights are in shared memory, and a thread has the four sums of a pooling
// window for FILTERS filters in registers: for each tap it loads at most four values of the image and
// FILTERS weights, and multiplies 4 · FILTERS times.
//
// Block: some rows of pooling windows of an image. Neighbouring threads differ in their filters.
//
// Of the compiler's command line: TAPS = S · C, those of a filter's row; NEXT = stride_w · C, from the
// place of a window to that of the next; FILTERS of a thread, 4 or 8; FUNCTION, the number of f.

// defines: largest_of, packed
#include "largest.cuh"
// defines: FLOATS, stage, load_band
#include "stage.cuh"

extern "C" __global__ void __launch_bounds__(512, 1)
    conv2d_bias_activation_maxpool_direct(float* __restrict__ y, unsigned char* __restrict__ index,
                                          const float* __restrict__ x, const float* __restrict__ weight,
                                          const float* __restrict__ b, float alpha, int H, int W, int C, int pools_h,
                                          int pools_w, int K, int R, int stride_h, int top, int left, int dilation_h,
                                          int rows)
{
    __align__(16) __shared__ float memory[FLOATS];
    int n = blockIdx.x, first = blockIdx.y * rows;
    rows = min(rows, pools_h - first);
    int groups = (K + FILTERS - 1) / FILTERS, of_a_tap = groups * FILTERS;
    int high = (2 * rows - 1) * stride_h + (R - 1) * dilation_h + 1;  // rows of the image that windows reach
    int wide = (2 * pools_w - 1) * NEXT + TAPS;                       // floats of such a row
    float* weights = memory;
    float* image = memory + R * TAPS * of_a_tap;
    stage(
        R * TAPS * of_a_tap,
        [&](int i) {
            int tap = i / of_a_tap, k = i - tap * of_a_tap;
            return k < K ? weight[tap * K + k] : 0.f;
        },
        [&](int i, float value) { weights[i] = value; });
    load_band(image, x + n * H * W * C, high, wide, 2 * first * stride_h - top, -left * C, H, W * C);
    __syncthreads();  // the weights and the image are complete

    bool quads = K % 4 == 0 && (size_t)y % 16 == 0 && (size_t)index % 4 == 0;
    for (int item = threadIdx.x; item < rows * pools_w * groups; item += blockDim.x) {
        int k = item % groups * FILTERS, window = item / groups;
        float sums[FILTERS][4];
#pragma unroll
        for (int f = 0; f < FILTERS; ++f)
#pragma unroll
            for (int cell = 0; cell < 4; ++cell) sums[f][cell] = 0.f;
        const float* above = image + 2 * (window / pools_w) * stride_h * wide + 2 * (window % pools_w) * NEXT;
        const float* filters = weights + k;
        for (int r = 0; r < R; ++r) {
            const float* below = above + stride_h * wide;
#pragma unroll
            for (int tap = 0; tap < TAPS; ++tap) {
                const float cells[] = {above[tap], above[tap + NEXT], below[tap], below[tap + NEXT]};
#pragma unroll
                for (int f = 0; f < FILTERS; f += 4) {
                    float4 quad = *(const float4*)(filters + tap * of_a_tap + f);
                    const float four[] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
                    for (int e = 0; e < 4; ++e)
#pragma unroll
                        for (int cell = 0; cell < 4; ++cell)
                            sums[f + e][cell] = fmaf(cells[cell], four[e], sums[f + e][cell]);
                }
            }
            above += dilation_h * wide, filters += TAPS * of_a_tap;
        }
        unsigned at = ((n * pools_h + first) * pools_w + window) * K + k;
#pragma unroll
        for (int f = 0; f < FILTERS; f += 4) {
            float largest[4];
            unsigned cells[4];
#pragma unroll
            for (int e = 0; e < 4; ++e)
                largest[e] = largest_of(sums[f + e], k + f + e < K ? __ldg(b + k + f + e) : 0.f, alpha, cells[e]);
            if (quads && k + f < K) {
                *(float4*)(y + at + f) = make_float4(largest[0], largest[1], largest[2], largest[3]);
                *(unsigned*)(index + at + f) = packed(cells);
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (k + f + e < K) y[at + f + e] = largest[e], index[at + f + e] = cells[e];
            }
        }
    }
}
