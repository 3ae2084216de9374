// What losses over rows of K values share: clipped probabilities, and the mean over a row of a loss of
// each value. EPSILON, to which probabilities are clipped, is defined by the launcher.

// defines: row_of_thread, enter_row, row_sum
#include "rows.cuh"
// defines: clamp
#include "stable.cuh"

__device__ float clip_probability(float p) { return clamp(p, EPSILON, 1.f - EPSILON); }

struct Term {
    float loss, slope;
};

template <class Each>
__device__ void mean_over_rows(float* __restrict__ values, float* __restrict__ gradient,
                               const float* __restrict__ y_pred, const float* __restrict__ y_true, unsigned N,
                               unsigned K, Each each)
{
    unsigned n = row_of_thread(), columns = enter_row(n, N, K, gradient, y_pred, y_true);
    float total = 0.f, share = 1.f / (float)K;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) {
        Term term = each(y_pred[k], y_true[k]);
        total += term.loss;
        gradient[k] = term.slope * share;
    }
    total = row_sum(total);
    if (threadIdx.x == 0 && n < N) values[n] = total / (float)K;
}
