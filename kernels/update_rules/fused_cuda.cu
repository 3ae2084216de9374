// More updates in one pass: every array is read once and written once, 16 bytes at a time, and
// between the two lies arithmetic in registers. Grid: one thread for 4 neighbouring elements.

// defines: each
#include "each.cuh"

extern "C" __global__ void adamax(float* values, const float* gradients, float* m, float* u, const float* row, int n,
                                  float take_1, float beta_2, float epsilon)
{
    float rate = row[RATE];
    each<3, 1>(n, {values, m, u}, {gradients}, [=](float* now, const float* given) {
        float &mean = now[1], &largest = now[2], g = given[0];
        mean += take_1 * (g - mean);
        float faded = beta_2 * largest, size = fabsf(g);
        largest = faded > size || faded != faded ? faded : size;  // a NaN stays one
        now[0] -= rate * mean / (largest + epsilon);
    });
}

__device__ __forceinline__ float sign(float x) { return x > 0.f ? 1.f : x < 0.f ? -1.f : x; }

extern "C" __global__ void lion(float* values, const float* gradients, float* m, const float* row, int n, float beta_1,
                                float take_1, float beta_2, float take_2)
{
    float rate = row[RATE];
    each<2, 1>(n, {values, m}, {gradients}, [=](float* now, const float* given) {
        float &mean = now[1], g = given[0];
        now[0] -= rate * sign(__fadd_rn(__fmul_rn(beta_1, mean), __fmul_rn(take_1, g)));
        mean = beta_2 * mean + take_2 * g;
    });
}

extern "C" __global__ void ftrl(float* values, const float* gradients, float* v, float* linear, const float* row, int n,
                                float power, float l1, float twice_l2, float twice_shrinkage, float beta)
{
    float rate = row[RATE];
    each<3, 1>(n, {values, v, linear}, {gradients}, [=](float* now, const float* given) {
        float &square = now[1], &line = now[2], g = given[0], value = now[0];
        float before = powf(square, power);
        square += g * g;
        float after = powf(square, power);
        line += g + twice_shrinkage * value - (after - before) / rate * value;
        float quadratic = after / rate + twice_l2 + beta / rate;
        float inside = line > l1 ? l1 : line < -l1 ? -l1 : line;
        now[0] = quadratic > 0.f ? (inside - line) / quadratic : 0.f;
    });
}

extern "C" __global__ void lamb(float* gradients, float* m, float* v, const float* row, int n, float take_1,
                                float take_2, float epsilon)
{
    float of_m = row[RATE + 1], of_v = row[RATE + 2];
    each<3, 1>(n, {gradients, m, v}, {}, [=](float* now, const float*) {
        float &mean = now[1], &square = now[2], g = now[0];
        mean += take_1 * (g - mean);
        square += take_2 * (g * g - square);
        now[0] = mean * of_m / (sqrtf(square * of_v) + epsilon);
    });
}

extern "C" __global__ void trust_step(float* values, const float* gradients, const float* value_parts,
                                      const float* parts, const float* row, int n)
{
    float of_values = value_parts[0] * sqrtf(value_parts[1]), of_gradients = parts[0] * sqrtf(parts[1]);
    float ratio = of_values > 0.f && of_gradients > 0.f ? of_values / of_gradients : 1.f;
    float rate = row[RATE] * ratio;
    each<1, 1>(n, {values}, {gradients}, [=](float* now, const float* given) { now[0] -= rate * given[0]; });
}

extern "C" __global__ void gather_momentum(float* gradients, float* m, int n, float momentum, bool nesterov)
{
    each<2, 1>(n, {gradients, m}, {}, [=](float* now, const float*) {
        now[1] = momentum * now[1] + now[0];
        now[0] = nesterov ? now[0] + momentum * now[1] : now[1];
    });
}

extern "C" __global__ void to_unit(float* gradients, const float* parts, int n, float epsilon)
{
    float norm = parts[0] * sqrtf(parts[1]) + epsilon;
    each<1, 1>(n, {gradients}, {}, [=](float* now, const float*) { now[0] /= norm; });
}
