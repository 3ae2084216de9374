// Naive matmul: y[m, n] = Σ a[m, k] · b[k, n], everything from global memory. The first rung of the
// ladder.
//
// Grid: M · N threads along x, one per output value; neighbours differ in n, so that a warp reads
// 32 neighbours of b at once and one value of a for all.

extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_naive(float* __restrict__ y, const float* __restrict__ a, const float* __restrict__ b, int M, int N, int K,
                 bool transpose_a, bool transpose_b)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= (unsigned)(M * N)) return;
    int m = i / N, n = i % N;
    float total = 0.f;
    for (int k = 0; k < K; ++k) {
        float left = transpose_a ? a[k * M + m] : a[m * K + k];
        float right = transpose_b ? b[n * K + k] : b[k * N + n];
        total = fmaf(left, right, total);
    }
    y[i] = total;
}
