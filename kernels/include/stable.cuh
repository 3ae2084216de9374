// Functions that neither overflow nor cancel, whatever their argument; a NaN comes out as a NaN.

__device__ inline float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// exp(-|x|) lies in (0, 1]; all of these use it. From it alone, sigmoid(x) is 1 / (1 + d) or
// d / (1 + d).
__device__ inline float decay(float x) { return expf(-fabsf(x)); }

__device__ inline float sigmoid(float x)
{
    float d = decay(x);
    return (x >= 0.f ? 1.f : d) / (1.f + d);
}

// log(1 + exp(x))
__device__ inline float softplus(float x) { return fmaxf(x, 0.f) + log1pf(decay(x)); }

// Φ(x) = erfc(-x / √2) / 2: erfc keeps the digits of the lower tail, which 1 + erf(x / √2) would
// cancel.
__device__ inline float normal_cdf(float x) { return 0.5f * erfcf(-0.70710678f * x); }
__device__ inline float normal_density(float x) { return 0.39894228f * expf(-0.5f * x * x); }
