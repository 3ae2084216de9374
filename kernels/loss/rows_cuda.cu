// Losses over rows of K values: the loss of each row and its gradient by y_pred in one kernel,
// because they share their exponentials.
//
// Grid: blocks of (threads of a row, rows) threads, see shared/rows_launch.py. Threads of a row
// that does not exist go without columns: they are needed in the reductions. EPSILON, to which
// probabilities are clipped, is defined by the launcher.

// defines: clip_probability, Term, mean_over_rows
#include "loss_rows.cuh"
// defines: row_of_thread, enter_row, row_sum, largest_of_row, sum_of_row, sum_of_exponentials
#include "rows.cuh"
// defines: clamp, decay, sigmoid
#include "stable.cuh"

// -- the mean over a row of a loss of each value
// ----------------------------------------------------------------------

// The same where y_true are labels of two classes, which are smoothed.
template <class Each>
__device__ void smoothed_mean(float* __restrict__ values, float* __restrict__ gradient,
                              const float* __restrict__ y_pred, const float* __restrict__ labels, unsigned N,
                              unsigned K, float label_smoothing, Each each)
{
    mean_over_rows(values, gradient, y_pred, labels, N, K, [=](float prediction, float label) {
        return each(prediction, label * (1.f - label_smoothing) + label_smoothing * 0.5f);
    });
}

extern "C" __global__ void mean_squared_error_rows(float* __restrict__ values, float* __restrict__ gradient,
                                                   const float* __restrict__ y_pred, const float* __restrict__ y_true,
                                                   unsigned N, unsigned K)
{
    mean_over_rows(values, gradient, y_pred, y_true, N, K, [](float prediction, float truth) {
        float error = prediction - truth;
        return Term{error * error, 2.f * error};
    });
}

extern "C" __global__ void mean_absolute_error_rows(float* __restrict__ values, float* __restrict__ gradient,
                                                    const float* __restrict__ y_pred, const float* __restrict__ y_true,
                                                    unsigned N, unsigned K)
{
    mean_over_rows(values, gradient, y_pred, y_true, N, K, [](float prediction, float truth) {
        float error = prediction - truth;
        return Term{fabsf(error), error > 0.f ? 1.f : error < 0.f ? -1.f : error};  // 0 and NaN stay what they are
    });
}

// e² / 2 up to delta, and beyond it the line that continues from there
extern "C" __global__ void huber_rows(float* __restrict__ values, float* __restrict__ gradient,
                                      const float* __restrict__ y_pred, const float* __restrict__ y_true, unsigned N,
                                      unsigned K, float delta)
{
    mean_over_rows(values, gradient, y_pred, y_true, N, K, [=](float prediction, float truth) {
        float error = prediction - truth, size = fabsf(error);
        float loss = size <= delta ? 0.5f * error * error : delta * size - 0.5f * delta * delta;
        return Term{loss, clamp(error, -delta, delta)};
    });
}

// -l · log p - (1 - l) · log(1 - p)
extern "C" __global__ void binary_cross_entropy_rows(float* __restrict__ values, float* __restrict__ gradient,
                                                     const float* __restrict__ probabilities,
                                                     const float* __restrict__ labels, unsigned N, unsigned K,
                                                     float label_smoothing)
{
    smoothed_mean(values, gradient, probabilities, labels, N, K, label_smoothing, [](float probability, float label) {
        float p = clip_probability(probability);
        float loss = -(label * logf(p) + (1.f - label) * logf(1.f - p));
        return Term{loss, p == probability ? (p - label) / (p * (1.f - p)) : 0.f};
    });
}

// max(z, 0) - z · l + log(1 + exp(-|z|))
extern "C" __global__ void sigmoid_binary_cross_entropy_rows(float* __restrict__ values, float* __restrict__ gradient,
                                                             const float* __restrict__ logits,
                                                             const float* __restrict__ labels, unsigned N, unsigned K,
                                                             float label_smoothing)
{
    smoothed_mean(values, gradient, logits, labels, N, K, label_smoothing, [](float z, float label) {
        return Term{fmaxf(z, 0.f) - z * label + log1pf(decay(z)), sigmoid(z) - label};
    });
}

// -- cross entropies of K classes
// -------------------------------------------------------------------------------------

// With m the largest logit, t = Σ exp(z - m) and L = Σ labels:
// log(t) · L - Σ labels · (z - m)  and its gradient
// exp(z - m) · L / t - labels.
extern "C" __global__ void softmax_cross_entropy_rows(float* __restrict__ values, float* __restrict__ dlogits,
                                                      const float* __restrict__ logits,
                                                      const float* __restrict__ labels, unsigned N, unsigned K,
                                                      float label_smoothing)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, dlogits, logits, labels);
    float keep = 1.f - label_smoothing, share = label_smoothing / (float)K;  // of a label, for every label
    float largest = largest_of_row(logits, columns);

    float total = 0.f, weight = 0.f, weighted = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        float shifted = logits[k] - largest, label = labels[k] * keep + share;
        total += expf(shifted);
        weight += label;
        weighted += label * shifted;
    }
    total = row_sum(total);
    weight = row_sum(weight);
    weighted = row_sum(weighted);

    float scale = weight / total;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x)
        dlogits[k] = expf(logits[k] - largest) * scale - (labels[k] * keep + share);
    if (threadIdx.x == 0 && n < N) values[n] = logf(total) * weight - weighted;
}

// The same where one label is 1 and the others 0: log(t) - (z[label] - m)  and its gradient
// exp(z - m) / t - (k = label).
extern "C" __global__ void sparse_softmax_cross_entropy_rows(float* __restrict__ values, float* __restrict__ dlogits,
                                                             const float* __restrict__ logits,
                                                             const int* __restrict__ labels, unsigned N, unsigned K)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, dlogits, logits);
    float largest = largest_of_row(logits, columns);
    float total = sum_of_exponentials(logits, columns, largest);

    if (n >= N) return;  // the last reduction is over
    unsigned label = labels[n];
    float scale = 1.f / total;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x)
        dlogits[k] = expf(logits[k] - largest) * scale - (k == label ? 1.f : 0.f);
    if (threadIdx.x == 0) values[n] = logf(total) - (logits[label] - largest);
}

// With q = p / Σ p:  -Σ labels · log(clip(q)), and through q the gradient (dq - Σ dq · q) / Σ p.
extern "C" __global__ void cross_entropy_rows(float* __restrict__ values, float* __restrict__ dprobabilities,
                                              const float* __restrict__ probabilities, const float* __restrict__ labels,
                                              unsigned N, unsigned K, float label_smoothing)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, dprobabilities, probabilities, labels);
    float keep = 1.f - label_smoothing, share = label_smoothing / (float)K;  // of a label, for every label
    float total = sum_of_row(probabilities, columns);

    float loss = 0.f, along = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        float label = labels[k] * keep + share;
        float q = probabilities[k] / total, clipped = clip_probability(q);
        float dq = clipped == q ? -label / clipped : 0.f;
        loss -= label * logf(clipped);
        along += dq * q;
        dprobabilities[k] = dq;  // kept for this thread's next loop
    }
    loss = row_sum(loss);
    along = row_sum(along);

    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x)
        dprobabilities[k] = (dprobabilities[k] - along) / total;
    if (threadIdx.x == 0 && n < N) values[n] = loss;
}

// The same where one label is 1 and the others 0: only one dq is not 0.
extern "C" __global__ void sparse_cross_entropy_rows(float* __restrict__ values, float* __restrict__ dprobabilities,
                                                     const float* __restrict__ probabilities,
                                                     const int* __restrict__ labels, unsigned N, unsigned K)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, dprobabilities, probabilities);
    float total = sum_of_row(probabilities, columns);

    if (n >= N) return;  // the last reduction is over
    unsigned label = labels[n];
    float q = probabilities[label] / total, clipped = clip_probability(q);
    float slope = (clipped == q ? -1.f / clipped : 0.f) / total;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x)
        dprobabilities[k] = k == label ? slope - slope * q : -slope * q;
    if (threadIdx.x == 0) values[n] = -logf(clipped);
}

// -- backward
// -----------------------------------------------------------------------------------------------

extern "C" __global__ void scale_rows(float* __restrict__ y, const float* __restrict__ gradient,
                                      const float* __restrict__ factors, unsigned N, unsigned K)
{
    unsigned n = row_of_thread();
    if (n >= N) return;
    y += n * K;
    gradient += n * K;
    float factor = factors[n];
    for (unsigned k = threadIdx.x; k < K; k += blockDim.x) y[k] = gradient[k] * factor;
}
