// Elementwise activations: y = f(x) and dx = dy · f'(x), four neighbouring values per thread.
//
// Grid: ⌈count / (4 · THREADS)⌉ blocks. A float4 is one load of 16 bytes, so that a warp loads 512
// bytes at once; the last thread may have fewer than four values. All threads take the same case of
// a switch: it costs a few instructions in a kernel that waits for memory, and saves a compilation
// per function. The launcher defines RELU, ….

// defines: clamp, decay, sigmoid, softplus, normal_cdf, normal_density
#include "stable.cuh"

constexpr float SELU_SCALE = 1.05070099f, SELU_ALPHA = 1.67326324f;
constexpr float CUBIC = 0.044715f, SQRT_8_OVER_PI = 1.59576912f;  // of gelu_tanh

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

// 2u, with (1 + tanh(u)) / 2 = sigmoid(2u)
__device__ float gelu_tanh_argument(float x) { return SQRT_8_OVER_PI * (x + CUBIC * x * x * x); }

// mish needs t = tanh(log(1 + exp(x))) = (p² - 1) / (p² + 1) with p = 1 + exp(x). Divided by the
// larger power of exp(x), no term overflows; 1 - t follows without a subtraction.
struct Mish {
    float t, one_minus_t;
};

__device__ Mish mish(float x)
{
    float d = decay(x);
    float above = x >= 0.f ? 1.f + 2.f * d : d * (d + 2.f);
    float rest = x >= 0.f ? 2.f * d * d : 2.f;
    return {above / (above + rest), rest / (above + rest)};
}

// f(x); a comparison that a NaN fails leads to the branch that passes it on
__device__ float value(int function, float x, float a)
{
    // clang-format off: a table
    switch (function) {
        case RELU:         return x <= 0.f ? 0.f : x;
        case RELU6:        return clamp(x, 0.f, 6.f);
        case LEAKY_RELU:   return x > 0.f ? x : a * x;
        case ELU:          return x > 0.f ? x : a * expm1f(x);
        case SELU:         return SELU_SCALE * (x > 0.f ? x : SELU_ALPHA * expm1f(x));
        case CELU:         return x > 0.f ? x : a * expm1f(x / a);
        case SIGMOID:      return sigmoid(x);
        case LOG_SIGMOID:  return -softplus(-x);
        case HARD_SIGMOID: return clamp(x / 6.f + 0.5f, 0.f, 1.f);
        case TANH:         return tanhf(x);
        case TANH_SHRINK:  return x - tanhf(x);
        case HARD_TANH:    return clamp(x, -1.f, 1.f);
        case HARD_SHRINK:  return fabsf(x) <= a ? 0.f : x;
        case SOFT_SHRINK:  return x - clamp(x, -a, a);
        case SOFTPLUS:     return softplus(x);
        case SOFTSIGN:     return x / (1.f + fabsf(x));
        case SILU:         return x * sigmoid(x);
        case HARD_SILU:    return x * clamp(x / 6.f + 0.5f, 0.f, 1.f);
        case GELU:         return x * normal_cdf(x);
        case GELU_TANH:    return x * sigmoid(gelu_tanh_argument(x));
        case MISH:         return x * mish(x).t;
        case EXPONENTIAL:  return expf(x);
        default:           return x;
    }
    // clang-format on
}

// f'(x); at a kink that of the lower side, as in the op
__device__ float slope(int function, float x, float a)
{
    // clang-format off: a table
    switch (function) {
        case RELU:         return x > 0.f ? 1.f : 0.f;
        case RELU6:        return x > 0.f && x < 6.f ? 1.f : 0.f;
        case LEAKY_RELU:   return x > 0.f ? 1.f : a;
        case ELU:          return x > 0.f ? 1.f : a * expf(x);
        case SELU:         return SELU_SCALE * (x > 0.f ? 1.f : SELU_ALPHA * expf(x));
        case CELU:         return x > 0.f ? 1.f : expf(x / a);
        case SIGMOID:      return sigmoid(x) * sigmoid(-x);
        case LOG_SIGMOID:  return sigmoid(-x);
        case HARD_SIGMOID: return fabsf(x) < 3.f ? 1.f / 6.f : 0.f;
        case TANH:         { float t = tanhf(x); return 1.f - t * t; }
        case TANH_SHRINK:  { float t = tanhf(x); return t * t; }
        case HARD_TANH:    return fabsf(x) < 1.f ? 1.f : 0.f;
        case HARD_SHRINK:
        case SOFT_SHRINK:  return fabsf(x) > a ? 1.f : 0.f;
        case SOFTPLUS:     return sigmoid(x);
        case SOFTSIGN:     { float s = 1.f / (1.f + fabsf(x)); return s * s; }
        case SILU:         { float s = sigmoid(x); return s + x * s * sigmoid(-x); }
        case HARD_SILU:    return fabsf(x) < 3.f ? x / 3.f + 0.5f : x > 0.f ? 1.f : 0.f;
        case GELU:         return normal_cdf(x) + x * normal_density(x);
        case GELU_TANH: {
            float z = gelu_tanh_argument(x), s = sigmoid(z);
            return s + x * s * sigmoid(-z) * SQRT_8_OVER_PI * (1.f + 3.f * CUBIC * x * x);
        }
        case MISH:         { Mish m = mish(x); return m.t + x * sigmoid(x) * m.one_minus_t * (1.f + m.t); }
        case EXPONENTIAL:  return expf(x);
        default:           return 1.f;
    }
    // clang-format on
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
