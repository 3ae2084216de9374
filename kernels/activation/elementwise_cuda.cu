// Elementwise activations: y = f(x) and dx = dy · f'(x), four neighbouring values per thread.
//
// Grid: ⌈count / (4 · THREADS)⌉ blocks. A float4 is one load of 16 bytes, so that a warp loads 512
// bytes at once; the last thread may have fewer than four values. All threads take the same case of
// a switch: it costs a few instructions in a kernel that waits for memory, and saves a compilation
// per function.

// defines: value, slope
#include "activations.cuh"

__device__ void load(float (&values)[4], const float* x, unsigned i, unsigned count)
{
    if (i + 4 <= count) {
        float4 four = *(const float4*)(x + i);
        values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
    } else {
        for (unsigned j = 0; j < 4; ++j) values[j] = i + j < count ? x[i + j] : 0.f;
    }
}

__device__ void store(float* y, const float (&values)[4], unsigned i, unsigned count)
{
    if (i + 4 <= count)
        *(float4*)(y + i) = make_float4(values[0], values[1], values[2], values[3]);
    else
        for (unsigned j = 0; j < 4; ++j)
            if (i + j < count) y[i + j] = values[j];
}

extern "C" __global__ void activation_elementwise(float* __restrict__ y, const float* __restrict__ x, unsigned count,
                                                  int function, float alpha)
{
    unsigned i = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (i >= count) return;
    float values[4];
    load(values, x, i, count);
    for (int j = 0; j < 4; ++j) values[j] = value(function, values[j], alpha);
    store(y, values, i, count);
}

extern "C" __global__ void activation_grad_elementwise(float* __restrict__ dx, const float* __restrict__ dy,
                                                       const float* __restrict__ x, unsigned count, int function,
                                                       float alpha)
{
    unsigned i = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (i >= count) return;
    float values[4], gradients[4];
    load(values, x, i, count);
    load(gradients, dy, i, count);
    for (int j = 0; j < 4; ++j) gradients[j] *= slope(function, values[j], alpha);
    store(dx, gradients, i, count);
}

extern "C" __global__ void clipped_relu_elementwise(float* __restrict__ y, const float* __restrict__ x, unsigned count,
                                                    float max_value, float negative_slope, float threshold)
{
    unsigned i = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (i >= count) return;
    float values[4];
    load(values, x, i, count);
    for (int j = 0; j < 4; ++j)
        values[j] = values[j] > threshold ? fminf(values[j], max_value) : negative_slope * (values[j] - threshold);
    store(y, values, i, count);
}

extern "C" __global__ void clipped_relu_grad_elementwise(float* __restrict__ dx, const float* __restrict__ dy,
                                                         const float* __restrict__ x, unsigned count, float max_value,
                                                         float negative_slope, float threshold)
{
    unsigned i = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (i >= count) return;
    float values[4], gradients[4];
    load(values, x, i, count);
    load(gradients, dy, i, count);
    for (int j = 0; j < 4; ++j)
        gradients[j] *= values[j] > threshold ? (values[j] < max_value ? 1.f : 0.f) : negative_slope;
    store(dx, gradients, i, count);
}
