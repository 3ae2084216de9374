// Bias and ReLU at the end of a product: y = max(sum + b, 0), b by columns, while the sums are in
// registers. Where the sums are cut into parts, whoever adds them up finishes them.

// gemm.cuh or tensor.cuh comes before: it defines THREAD_N and column_of.

// defines: add_up
#include "split.cuh"

// max(z, 0); NaN stays.
__device__ inline float relu(float z) { return z <= 0.f ? 0.f : z; }

// For `write`. In a part of a sum b is null, and the sums stay as they are.
struct BiasRelu {
    const float* __restrict__ b;

    struct Columns {
        bool whole;
        float bias[THREAD_N];
        __device__ float operator()(float sum, int j) const { return whole ? relu(sum + bias[j]) : sum; }
    };

    __device__ Columns of_columns(unsigned n, unsigned N) const
    {
        Columns columns;
        columns.whole = b != nullptr;
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) {
            unsigned at_n = n + column_of(j);
            columns.bias[j] = columns.whole && at_n < N ? __ldg(b + at_n) : 0.f;
        }
        return columns;
    }
};

// For `add_up`.
struct BiasReluOfSum {
    const float* __restrict__ b;
    unsigned K;
    __device__ float operator()(float sum, unsigned i) const { return relu(sum + __ldg(b + i % K)); }
};

extern "C" __global__ void sum_parts_bias_relu(float* __restrict__ y, const float* __restrict__ parts,
                                               const float* __restrict__ b, unsigned size, unsigned count, unsigned K)
{
    add_up(y, parts, size, count, BiasReluOfSum{b, K});
}
