// The parametric rectifier: y = x above 0, alpha[k] · x up to it, and its gradients.
//
//     dx = dy above 0, alpha[k] · dy below, 0 at 0          dalpha[k] = Σ dy · x where x is not above 0
//
// A value moves 8 bytes forward and 12 in the gradient of x, so memory sets the time: a thread takes
// four neighbouring values as 16 bytes and counts the channel up as it goes along them. The sum is
// cut into slices as in column_totals.cuh.

// defines: column_totals
#include "column_totals.cuh"

__device__ __forceinline__ float rectified(float x, float alpha) { return x > 0.f ? x : alpha * x; }

__device__ __forceinline__ float sloped(float dy, float x, float alpha)
{
    return x > 0.f ? dy : x == 0.f ? 0.f : alpha * dy;
}

extern "C" __global__ void prelu_rows(float* __restrict__ y, const float* __restrict__ x,
                                      const float* __restrict__ alpha, unsigned size, unsigned K)
{
    unsigned first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= size) return;
    unsigned k = first % K;

    if (first + 4 > size) {  // the last values, fewer than four
        for (unsigned i = first; i < size; ++i, k = k + 1 < K ? k + 1 : 0) y[i] = rectified(x[i], alpha[k]);
        return;
    }
    float4 four = *reinterpret_cast<const float4*>(x + first);
    four.x = rectified(four.x, __ldg(alpha + k)), k = k + 1 < K ? k + 1 : 0;
    four.y = rectified(four.y, __ldg(alpha + k)), k = k + 1 < K ? k + 1 : 0;
    four.z = rectified(four.z, __ldg(alpha + k)), k = k + 1 < K ? k + 1 : 0;
    four.w = rectified(four.w, __ldg(alpha + k));
    *reinterpret_cast<float4*>(y + first) = four;
}

extern "C" __global__ void prelu_grad_rows(float* __restrict__ dx, const float* __restrict__ dy,
                                           const float* __restrict__ x, const float* __restrict__ alpha, unsigned size,
                                           unsigned K)
{
    unsigned first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= size) return;
    unsigned k = first % K;

    if (first + 4 > size) {  // the last values, fewer than four
        for (unsigned i = first; i < size; ++i, k = k + 1 < K ? k + 1 : 0) dx[i] = sloped(dy[i], x[i], alpha[k]);
        return;
    }
    float4 four = *reinterpret_cast<const float4*>(dy + first), at = *reinterpret_cast<const float4*>(x + first);
    four.x = sloped(four.x, at.x, __ldg(alpha + k)), k = k + 1 < K ? k + 1 : 0;
    four.y = sloped(four.y, at.y, __ldg(alpha + k)), k = k + 1 < K ? k + 1 : 0;
    four.z = sloped(four.z, at.z, __ldg(alpha + k)), k = k + 1 < K ? k + 1 : 0;
    four.w = sloped(four.w, at.w, __ldg(alpha + k));
    *reinterpret_cast<float4*>(dx + first) = four;
}

struct BelowZero {
    const float* __restrict__ dy, * __restrict__ x;
    __device__ float operator()(unsigned i) const
    {
        float at = __ldg(x + i);
        return at > 0.f ? 0.f : __ldg(dy + i) * at;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    prelu_grad_alpha_rows(float* __restrict__ dalpha, float* sums, const float* __restrict__ dy,
                          const float* __restrict__ x, unsigned rows, unsigned columns, unsigned width,
                          unsigned rows_per_slice)
{
    column_totals(dalpha, sums, BelowZero{dy, x}, rows, columns, width, rows_per_slice);
}
