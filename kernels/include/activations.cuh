// The activations of the engine and their slopes, as switches over a number that the launcher defines
// for each: RELU, …. Where the number is a macro, the switch is gone once it is compiled. Any other
// number, such as LINEAR, stands for the function that changes nothing.

// defines: clamp, decay, sigmoid, softplus, normal_cdf, normal_density
#include "stable.cuh"

constexpr float SELU_SCALE = 1.05070099f, SELU_ALPHA = 1.67326324f;
constexpr float CUBIC = 0.044715f, SQRT_8_OVER_PI = 1.59576912f;  // of gelu_tanh

// 2u, with (1 + tanh(u)) / 2 = sigmoid(2u)
__device__ inline float gelu_tanh_argument(float x) { return SQRT_8_OVER_PI * (x + CUBIC * x * x * x); }

// mish needs t = tanh(log(1 + exp(x))) = (p² - 1) / (p² + 1) with p = 1 + exp(x). Divided by the
// larger power of exp(x), no term overflows; 1 - t follows without a subtraction.
struct Mish {
    float t, one_minus_t;
};

__device__ inline Mish mish(float x)
{
    float d = decay(x);
    float above = x >= 0.f ? 1.f + 2.f * d : d * (d + 2.f);
    float rest = x >= 0.f ? 2.f * d * d : 2.f;
    return {above / (above + rest), rest / (above + rest)};
}

// f(x); a comparison that a NaN fails leads to the branch that passes it on
__device__ inline float value(int function, float x, float a)
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
__device__ inline float slope(int function, float x, float a)
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

// dy times the slope of f at the place where its result is y, for the functions that never fall
__device__ inline float gradient_at_result(int function, float dy, float y, float a)
{
    // clang-format off: a table
    switch (function) {
        case RELU:         return y <= 0.f ? 0.f : dy;
        case RELU6:        return dy * (y > 0.f && y < 6.f ? 1.f : 0.f);
        case LEAKY_RELU:   return dy * (y > 0.f ? 1.f : a);
        case ELU:          return dy * (y > 0.f ? 1.f : y + a);
        case SELU:         return dy * (y > 0.f ? SELU_SCALE : y + SELU_SCALE * SELU_ALPHA);
        case CELU:         return dy * (y > 0.f ? 1.f : y / a + 1.f);
        case SIGMOID:      return dy * (y * (1.f - y));
        case LOG_SIGMOID:  return dy * -expm1f(y);
        case HARD_SIGMOID: return dy * (y > 0.f && y < 1.f ? 1.f / 6.f : 0.f);
        case TANH:         return dy * (1.f - y * y);
        case HARD_TANH:    return dy * (fabsf(y) < 1.f ? 1.f : 0.f);
        case HARD_SHRINK:
        case SOFT_SHRINK:  return dy * (fabsf(y) > 0.f ? 1.f : 0.f);
        case SOFTPLUS:     return dy * -expm1f(-y);
        case SOFTSIGN:     { float s = 1.f - fabsf(y); return dy * (s * s); }
        case EXPONENTIAL:  return dy * y;
        default:           return dy;
    }
    // clang-format on
}
