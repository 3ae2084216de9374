// The last dense layer and its loss, a block for each row:
//   logits[n, k] = Σ x[n, c] · weight[c, k] + b[k],  losses[n] = log Σ exp(logits[n, :]) - logits[n, label],
//   dlogits[n, k] = factors[n] · (softmax(logits[n, :])[k] - (k = label))
//
// The threads of a block share the inputs of its row; each has a sum for all K classes, which lie
// side by side in memory. The sums are added by shuffles in a warp, then those of the warps in
// shared memory, in a fixed order. One warp has a class for each lane and finishes the row.
// K ≤ 32 is a macro, and so is THREADS, a multiple of 32.

constexpr unsigned ALL = 0xffffffffu;
constexpr int WARPS = THREADS / 32;

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_softmax_cross_entropy_rows(float* __restrict__ logits, float* __restrict__ losses,
                                     float* __restrict__ dlogits, const float* __restrict__ x,
                                     const float* __restrict__ weight, const float* __restrict__ b,
                                     const int* __restrict__ labels, const float* __restrict__ factors, unsigned C)
{
    __shared__ float sums_of_warps[WARPS][K];
    unsigned n = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float sums[K] = {};
#pragma unroll 2
    for (unsigned c = threadIdx.x; c < C; c += THREADS) {
        float input = __ldg(x + n * C + c);
#pragma unroll
        for (int k = 0; k < K; ++k) sums[k] = fmaf(input, __ldg(weight + c * K + k), sums[k]);
    }
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
        for (int apart = 16; apart > 0; apart /= 2) sums[k] += __shfl_xor_sync(ALL, sums[k], apart);
        if (lane == 0) sums_of_warps[warp][k] = sums[k];
    }
    __syncthreads();  // the sums of all warps
    if (warp > 0) return;

    bool is_class = lane < K;
    float logit = 0.f;
    if (is_class) {
#pragma unroll
        for (int other = 0; other < WARPS; ++other) logit += sums_of_warps[other][lane];
        logit += __ldg(b + lane);
    }
    float first = __shfl_sync(ALL, logit, 0), largest = is_class ? logit : first;
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
        float other = __shfl_xor_sync(ALL, largest, apart);
        largest = largest >= other || largest != largest ? largest : other;  // NaN stays
    }
    float exponential = is_class ? expf(logit - largest) : 0.f, total = exponential;
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) total += __shfl_xor_sync(ALL, total, apart);
    unsigned label = labels[n];
    if (!is_class) return;
    logits[n * K + lane] = logit;
    dlogits[n * K + lane] = (exponential / total - (lane == label ? 1.f : 0.f)) * factors[n];
    if (lane == label) losses[n] = logf(total) - (logit - largest);
}
