// Losses over rows of K values: the loss of each row and its gradient by y_pred in one kernel.
//
// Grid: blocks of (threads of a row, rows) threads, see shared/rows_launch.py. Threads of a row that
// does not exist go without columns: they are needed in the reductions. The function of value_loss is
// a number, and all threads take the same case; EPSILON and the numbers are defined by the launcher.

// defines: clip_probability, Term, mean_over_rows
#include "loss_rows.cuh"
// defines: row_of_thread, enter_row, row_sum, row_max, sum_of_row, LOWEST
#include "rows.cuh"
// defines: clamp
#include "stable.cuh"

__device__ __forceinline__ Term value_term(int function, float p, float t)
{
    float error = p - t;
    float sign = error > 0.f ? 1.f : error < 0.f ? -1.f : error;
    switch (function) {
        case MEAN_ABSOLUTE_PERCENTAGE_ERROR: {
            float scale = 100.f / fmaxf(fabsf(t), EPSILON);
            return {fabsf(error) * scale, sign * scale};
        }
        case MEAN_SQUARED_LOGARITHMIC_ERROR: {
            float above = fmaxf(p, EPSILON) + 1.f, distance = logf(above) - logf(fmaxf(t, EPSILON) + 1.f);
            return {distance * distance, p < EPSILON ? 0.f : 2.f * distance / above};
        }
        case LOG_COSH: {
            float size = fabsf(error);
            return {size + log1pf(expf(-2.f * size)) - 0.69314718f, tanhf(error)};
        }
        case POISSON: {
            float rate = p + EPSILON;
            return {p - t * logf(rate), 1.f - t / rate};
        }
        case HINGE: {
            float lack = 1.f - t * p;
            return {fmaxf(lack, 0.f), lack > 0.f ? -t : 0.f};
        }
        case SQUARED_HINGE: {
            float lack = fmaxf(1.f - t * p, 0.f);
            return {lack * lack, -2.f * t * lack};
        }
        default: {  // KL_DIVERGENCE
            float share = clamp(t, EPSILON, 1.f);
            float loss = share * logf(share / clamp(p, EPSILON, 1.f));
            return {loss, p < EPSILON || p > 1.f ? 0.f : -share / p};
        }
    }
}

extern "C" __global__ void value_loss_rows(float* __restrict__ values, float* __restrict__ gradient,
                                           const float* __restrict__ y_pred, const float* __restrict__ y_true,
                                           unsigned N, unsigned K, int function, float scale)
{
    mean_over_rows(values, gradient, y_pred, y_true, N, K, [=](float p, float t) {
        Term term = value_term(function, p, t);
        return Term{term.loss * scale, term.slope * scale};
    });
}

extern "C" __global__ void binary_focal_rows(float* __restrict__ values, float* __restrict__ gradient,
                                             const float* __restrict__ probabilities, const float* __restrict__ labels,
                                             unsigned N, unsigned K, float gamma, float of_ones, float of_zeros)
{
    mean_over_rows(values, gradient, probabilities, labels, N, K, [=](float probability, float label) {
        float p = clip_probability(probability);
        float crossentropy = -(label * logf(p) + (1.f - label) * logf(1.f - p));
        float slope = p == probability ? (p - label) / (p * (1.f - p)) : 0.f;
        float missed = label * (1.f - probability) + (1.f - label) * probability;
        float factor = powf(missed, gamma);
        float steepness = gamma * powf(fmaxf(missed, 1e-30f), gamma - 1.f) * (1.f - 2.f * label);
        float weight = label * of_ones + (1.f - label) * of_zeros;
        return Term{weight * factor * crossentropy, weight * (steepness * crossentropy + factor * slope)};
    });
}

// As cross_entropy_rows of loss, with another slope of each value.
extern "C" __global__ void categorical_focal_rows(float* __restrict__ values, float* __restrict__ dprobabilities,
                                                  const float* __restrict__ probabilities,
                                                  const float* __restrict__ labels, unsigned N, unsigned K, float alpha,
                                                  float gamma)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, dprobabilities, probabilities, labels);
    float total = sum_of_row(probabilities, columns);

    float loss = 0.f, along = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        float scaled = probabilities[k] / total, q = clip_probability(scaled), rest = 1.f - q, logarithm = logf(q);
        float factor = -alpha * labels[k] * powf(rest, gamma);
        float dq = q == scaled ? factor * (1.f / q - gamma * logarithm / rest) : 0.f;
        loss += factor * logarithm;
        along += dq * scaled;
        dprobabilities[k] = dq;  // kept for this thread's next loop
    }
    loss = row_sum(loss);
    along = row_sum(along);

    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x)
        dprobabilities[k] = (dprobabilities[k] - along) / total;
    if (threadIdx.x == 0 && n < N) values[n] = loss;
}

extern "C" __global__ void cosine_rows(float* __restrict__ values, float* __restrict__ gradient,
                                       const float* __restrict__ y_pred, const float* __restrict__ y_true, unsigned N,
                                       unsigned K)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, gradient, y_pred, y_true);
    float squares = 0.f, of_truth = 0.f, along = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        squares = fmaf(y_pred[k], y_pred[k], squares);
        of_truth = fmaf(y_true[k], y_true[k], of_truth);
        along = fmaf(y_pred[k], y_true[k], along);
    }
    float length = sqrtf(row_sum(squares));
    float a = 1.f / fmaxf(length, EPSILON), b = 1.f / fmaxf(sqrtf(row_sum(of_truth)), EPSILON);
    along = row_sum(along);

    float turn = length > EPSILON ? a * a * along : 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) gradient[k] = -a * b * (y_true[k] - y_pred[k] * turn);
    if (threadIdx.x == 0 && n < N) values[n] = -a * b * along;
}

extern "C" __global__ void categorical_hinge_rows(float* __restrict__ values, float* __restrict__ gradient,
                                                  const float* __restrict__ y_pred, const float* __restrict__ y_true,
                                                  unsigned N, unsigned K)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, gradient, y_pred, y_true);
    float right = 0.f, strongest = LOWEST;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        right = fmaf(y_true[k], y_pred[k], right);
        strongest = fmaxf(strongest, __fmul_rn(1.f - y_true[k], y_pred[k]));
    }
    right = row_sum(right);
    strongest = row_max(strongest);
    float place = LOWEST;  // minus the first column that has it
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x)
        if (__fmul_rn(1.f - y_true[k], y_pred[k]) == strongest) place = fmaxf(place, -(float)k);
    place = row_max(place);

    float value = strongest - right + 1.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        float slope = (-(float)k == place ? 1.f - y_true[k] : 0.f) - y_true[k];
        gradient[k] = value > 0.f ? slope : 0.f;
    }
    if (threadIdx.x == 0 && n < N) values[n] = fmaxf(value, 0.f);
}

extern "C" __global__ void overlap_rows(float* __restrict__ values, float* __restrict__ gradient,
                                        const float* __restrict__ y_pred, const float* __restrict__ y_true, unsigned N,
                                        unsigned K, float alpha, float beta, float epsilon)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, gradient, y_pred, y_true);
    float shared = 0.f, truths = 0.f, predictions = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        shared = fmaf(y_true[k], y_pred[k], shared);
        truths += y_true[k];
        predictions += y_pred[k];
    }
    shared = row_sum(shared);
    truths = row_sum(truths);
    predictions = row_sum(predictions);

    float both = 1.f - alpha - beta, whole = both * shared + alpha * truths + beta * predictions + epsilon;
    float share = shared / whole;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x)
        gradient[k] = (share * (both * y_true[k] + beta) - y_true[k]) / whole;
    if (threadIdx.x == 0 && n < N) values[n] = 1.f - share;
}

extern "C" __global__ void power_loss_rows(float* __restrict__ values, float* __restrict__ dprobabilities,
                                           const float* __restrict__ probabilities, const int* __restrict__ labels,
                                           unsigned N, unsigned K, float q)
{
    unsigned n = row_of_thread();
    enter_row(n, N, K, dprobabilities, probabilities);
    if (n >= N) return;
    unsigned label = labels[n];
    float p = probabilities[label];
    for (unsigned k = threadIdx.x; k < K; k += blockDim.x) dprobabilities[k] = k == label ? -powf(p, q - 1.f) : 0.f;
    if (threadIdx.x == 0) values[n] = (1.f - powf(p, q)) / q;
}
