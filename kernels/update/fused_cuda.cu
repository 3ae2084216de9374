// An update in one pass: every array is read once and written once, and between the two lies
// arithmetic in registers.
//   changed[a] = f(changed, read), element by element
// An update computes some ten operations for every 4 · (arrays read + arrays written) bytes, so
// bytes are what it costs: 16-byte accesses move them with a quarter of the instructions of 4-byte
// ones. Grid: one thread for 4 neighbouring elements.

// defines: each
#include "each.cuh"

const float LARGEST = 3.40282347e+38f;  // of all finite numbers

// Unlike fmaxf, a NaN is larger than any number.
__device__ __forceinline__ float larger(float a, float b) { return a > b || a != a ? a : b; }

extern "C" __global__ void sgd(float* values, const float* gradients, const float* row, int n)
{
    float rate = row[RATE];
    each<1, 1>(n, {values}, {gradients}, [=](float* now, const float* given) { now[0] -= rate * given[0]; });
}

extern "C" __global__ void momentum(float* values, const float* gradients, float* m, const float* row, int n,
                                    float beta, bool nesterov)
{
    float rate = row[RATE];
    each<2, 1>(n, {values, m}, {gradients}, [=](float* now, const float* given) {
        float& velocity = now[1];
        float step = rate * given[0];
        velocity = beta * velocity - step;
        now[0] += nesterov ? beta * velocity - step : velocity;
    });
}

extern "C" __global__ void adam(float* values, const float* gradients, float* m, float* v, float* v_max,
                                const float* row, int n, float take_1, float take_2, float epsilon)
{
    float rate = row[RATE];
    bool amsgrad = v_max != nullptr;
    each<4, 1>(n, {values, m, v, v_max}, {gradients}, [=](float* now, const float* given) {
        float &mean = now[1], &square = now[2], &largest = now[3], g = given[0];
        mean += take_1 * (g - mean);
        square += take_2 * (g * g - square);
        largest = amsgrad ? larger(largest, square) : square;
        now[0] -= rate * mean / (sqrtf(largest) + epsilon);
    });
}

extern "C" __global__ void nadam(float* values, const float* gradients, float* m, float* v, const float* row, int n,
                                 float take_1, float take_2, float epsilon)
{
    float of_m = row[RATE], of_gradients = row[RATE + 1], correction = row[RATE + 2];
    each<3, 1>(n, {values, m, v}, {gradients}, [=](float* now, const float* given) {
        float &mean = now[1], &square = now[2], g = given[0];
        mean += take_1 * (g - mean);
        square += take_2 * (g * g - square);
        now[0] -= (of_m * mean + of_gradients * g) / (sqrtf(correction * square) + epsilon);
    });
}

extern "C" __global__ void rmsprop(float* values, const float* gradients, float* v, float* mean, float* m,
                                   const float* row, int n, float rho, float take, float momentum, float epsilon)
{
    float rate = row[RATE];
    bool centered = mean != nullptr, moving = m != nullptr;
    each<4, 1>(n, {values, v, mean, m}, {gradients}, [=](float* now, const float* given) {
        float &square = now[1], &average = now[2], &velocity = now[3], g = given[0];
        square = rho * square + take * (g * g);
        average = rho * average + take * g;
        float spread = square + epsilon - (centered ? average * average : 0.f);
        float step = rate * g / sqrtf(spread);
        velocity = moving ? momentum * velocity + step : step;
        now[0] -= velocity;
    });
}

extern "C" __global__ void adagrad(float* values, const float* gradients, float* v, const float* row, int n,
                                   float epsilon)
{
    float rate = row[RATE];
    each<2, 1>(n, {values, v}, {gradients}, [=](float* now, const float* given) {
        now[1] += given[0] * given[0];
        now[0] -= rate * given[0] / sqrtf(now[1] + epsilon);
    });
}

extern "C" __global__ void adadelta(float* values, const float* gradients, float* v, float* delta, const float* row,
                                    int n, float rho, float take, float epsilon)
{
    float rate = row[RATE];
    each<3, 1>(n, {values, v, delta}, {gradients}, [=](float* now, const float* given) {
        float &square = now[1], &changes = now[2], g = given[0];
        square = rho * square + take * (g * g);
        float step = sqrtf(changes + epsilon) * g / sqrtf(square + epsilon);
        changes = rho * changes + take * (step * step);
        now[0] -= rate * step;
    });
}

extern "C" __global__ void decay(float* values, const float* row, int n)
{
    float part = row[DECAY];
    each<1, 1>(n, {values}, {}, [=](float* now, const float*) { now[0] -= part * now[0]; });
}

extern "C" __global__ void average(float* averages, const float* values, const float* row, int n)
{
    float keep = row[MOMENTUM], take = row[TAKE];
    each<1, 1>(n, {averages}, {values},
               [=](float* now, const float* given) { now[0] = keep * now[0] + take * given[0]; });
}

extern "C" __global__ void accumulate(float* total, const float* gradients, int n)
{
    each<1, 1>(n, {total}, {gradients}, [=](float* now, const float* given) { now[0] += given[0]; });
}

extern "C" __global__ void take_mean(float* gradients, float* total, int n, float count)
{
    each<2, 1>(n, {gradients, total}, {}, [=](float* now, const float*) {
        now[0] = (now[0] + now[1]) / count;
        now[1] = 0.f;
    });
}

extern "C" __global__ void clip_by_value(float* gradients, int n, float limit)
{
    each<1, 1>(n, {gradients}, {}, [=](float* now, const float*) {
        now[0] = now[0] > limit ? limit : now[0] < -limit ? -limit : now[0];  // a NaN stays one
    });
}

// The norm itself may be above the range of float32, and so may the scale be far above the limit:
// each gradient is first divided by the scale, a power of two, which is exact. A scale that is NaN
// is spread to all gradients. With one that is infinite, infinite gradients become the limit and
// all others 0.
extern "C" __global__ void clip_by_norm(float* gradients, const float* parts, int n, float limit)
{
    float scale = parts[0], root = sqrtf(parts[1]);
    if (scale * root <= limit) return;
    if (scale > LARGEST) {
        each<1, 1>(n, {gradients}, {}, [=](float* now, const float*) {
            now[0] = now[0] > LARGEST ? limit : now[0] < -LARGEST ? -limit : 0.f;
        });
        return;
    }
    float down = 1.f / scale, up = limit / root;
    each<1, 1>(n, {gradients}, {}, [=](float* now, const float*) { now[0] = now[0] * down * up; });
}

extern "C" __global__ void regularize(float* gradients, const float* values, int n, float l1, float twice_l2)
{
    each<1, 1>(n, {gradients}, {values}, [=](float* now, const float* given) {
        float value = given[0], sign = value > 0.f ? 1.f : value < 0.f ? -1.f : value;  // of a NaN a NaN
        now[0] += l1 * sign + twice_l2 * value;
    });
}

extern "C" __global__ void non_neg(float* values, int n)
{
    each<1, 1>(n, {values}, {}, [=](float* now, const float*) { now[0] = now[0] < 0.f ? 0.f : now[0]; });
}
