// Bias and activation at the end of a product: y = f(sum + b), b by columns, while the sums are in
// registers, and dropout of y if DROPS. Where the sums are cut into parts, whoever adds them up finishes
// them. The launcher defines FUNCTION, the number of f, and DROPS, for columns that are a multiple of 4.

// gemm.cuh or tensor.cuh comes before: it defines THREAD_N and column_of.

// defines: value
#include "activations.cuh"
// defines: Dropping
#include "dropping.cuh"
// defines: add_up
#include "split.cuh"

// For `write`, into the array that begins at y. In a part of a sum b is null, and the sums stay as they are.
struct BiasActivation {
    const float* __restrict__ b;
    float alpha;
    const float* y;
    Dropping dropping;

    struct Columns {
        bool whole;
        float alpha, bias[THREAD_N];
        const float* y;
        Dropping dropping;
        __device__ float operator()(float sum, int j) const
        {
            return whole ? value(FUNCTION, sum + bias[j], alpha) : sum;
        }
        __device__ float4 kept(float4 four, const float* to) const
        {
            return whole ? dropping(four, unsigned(to - y)) : four;
        }
    };

    __device__ Columns of_columns(unsigned n, unsigned N) const
    {
        Columns columns;
        columns.whole = b != nullptr, columns.alpha = alpha, columns.y = y, columns.dropping = dropping;
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) {
            unsigned at_n = n + column_of(j);
            columns.bias[j] = columns.whole && at_n < N ? __ldg(b + at_n) : 0.f;
        }
        return columns;
    }
};

// For `add_up`.
struct BiasActivationOfSum {
    const float* __restrict__ b;
    float alpha;
    unsigned K;
    Dropping dropping;

    __device__ float4 operator()(float4 sum, unsigned i) const
    {
        float four[] = {sum.x, sum.y, sum.z, sum.w}, bias[4];
        unsigned k = i % K;
        if (K % 4 == 0 && (size_t)b % 16 == 0) {
            float4 quad = *(const float4*)(b + k);
            bias[0] = quad.x, bias[1] = quad.y, bias[2] = quad.z, bias[3] = quad.w;
        } else {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                bias[e] = b[k];
                k = k + 1 == K ? 0 : k + 1;
            }
        }
#pragma unroll
        for (int e = 0; e < 4; ++e) four[e] = value(FUNCTION, four[e] + bias[e], alpha);
        return dropping(make_float4(four[0], four[1], four[2], four[3]), i);
    }
};

extern "C" __global__ void sum_parts_bias_activation(float* __restrict__ y, const float* __restrict__ parts,
                                                     const float* __restrict__ b, float alpha,
                                                     const long long* __restrict__ step, unsigned threshold,
                                                     float scale, unsigned long long seed, unsigned stream,
                                                     unsigned counter, unsigned size, unsigned count, unsigned K)
{
    add_up(y, parts, size, count, BiasActivationOfSum{b, alpha, K, {step, threshold, scale, seed, stream, counter}});
}
