// Sums of tensor cores that are not finite are computed again: tensor.cuh says why.

// Whether all sums are finite, and so far from infinity that no tensor core stopped short of it.
template <int M, int N> __device__ bool all_finite(const float (&sums)[M][N])
{
    bool all = true;
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) all = all && fabsf(sums[i][j]) < 0x1p127f;
    return all;
}

// The tile of a product: `on_tensor_cores()` sets the sums if the operands are aligned, and
// `plainly()` if they are not, or if a sum is not finite.
template <int M, int N, class Tensor, class Plain>
__device__ __forceinline__ void compute(const float (&sums)[M][N], bool aligned, Tensor on_tensor_cores, Plain plainly)
{
    if (aligned) {
        on_tensor_cores();
        if (!__syncthreads_or(!all_finite(sums))) return;  // else nobody reads the slabs any more
    }
    plainly();
}
