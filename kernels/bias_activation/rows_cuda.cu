// Bias and activation over rows: y[i, k] = f(z[i, k] + b[k]), all leading axes flattened, and the
// gradient: dz[i, k] = scale · dy[i, k] times the slope of f, db[k] = Σ dz[i, k].
//
// Forward, a thread takes four neighbouring values as 16 bytes and counts the channel up as it goes
// along them. Backward, dz is made and added up in one pass: 12 bytes for each value, where two
// kernels move 16 and one of them waits for the other. The sum is cut into slices, one block for
// each slice and 32 channels, and the last block adds up the slices (include/column_totals.cuh).

// defines: value, slope, gradient_at_result
#include "activations.cuh"
// defines: column_totals
#include "column_totals.cuh"

// `sums` is null where z + b is not kept.
extern "C" __global__ void bias_activation_rows(float* __restrict__ y, float* __restrict__ sums,
                                                const float* __restrict__ z, const float* __restrict__ b, unsigned size,
                                                unsigned K, int function, float alpha)
{
    unsigned first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= size) return;
    unsigned k = first % K, count = min(4u, size - first);
    float values[4];
    if (count == 4) {
        float4 four = *(const float4*)(z + first);
        values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
    } else {
#pragma unroll
        for (unsigned j = 0; j < 4; ++j) values[j] = j < count ? z[first + j] : 0.f;
    }
    float biases[4];
    if (K % 4 == 0 && (size_t)b % 16 == 0) {
        float4 quad = *(const float4*)(b + k);
        biases[0] = quad.x, biases[1] = quad.y, biases[2] = quad.z, biases[3] = quad.w;
    } else {
#pragma unroll
        for (unsigned j = 0; j < 4; ++j) biases[j] = __ldg(b + k), k = k + 1 < K ? k + 1 : 0;
    }
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
        values[j] += biases[j];
        if (sums && j < count) sums[first + j] = values[j];
        values[j] = value(function, values[j], alpha);
    }
    if (count == 4) {
        *(float4*)(y + first) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
#pragma unroll
        for (unsigned j = 0; j < 4; ++j)
            if (j < count) y[first + j] = values[j];
    }
}

// `of_result` says what was kept: y, or z + b. FUNCTION is a macro where a kernel is compiled for one
// function alone.
#ifndef FUNCTION
#define FUNCTION function
#endif
struct WithSlope {
    float* __restrict__ dz;
    const float* __restrict__ dy;
    const float* __restrict__ kept;
    int function;
    float alpha, scale;
    bool of_result;

    __device__ float operator()(unsigned i) const
    {
        float gradient = scale * __ldg(dy + i), at = __ldg(kept + i);  // neither load waits for the other
        gradient =
            of_result ? gradient_at_result(FUNCTION, gradient, at, alpha) : gradient * slope(FUNCTION, at, alpha);
        dz[i] = gradient;
        return gradient;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    bias_activation_grad_rows(float* __restrict__ db, float* sums, float* __restrict__ dz, const float* __restrict__ dy,
                              const float* __restrict__ kept, unsigned rows, unsigned columns, unsigned width,
                              unsigned rows_per_slice, int function, float alpha, float scale, bool of_result)
{
    column_totals(db, sums, WithSlope{dz, dy, kept, function, alpha, scale, of_result}, rows, columns, width,
                  rows_per_slice);
}
