// Naive matmul: y (M, N) = a (M, K) · b (K, N), one thread per output value.
extern "C" __global__ void matmul_naive(float* __restrict__ y, const float* __restrict__ a, const float* __restrict__ b,
                                        int M, int N, int K, bool transpose_a, bool transpose_b)
{
    int n = blockIdx.x * blockDim.x + threadIdx.x;
    int m = blockIdx.y * blockDim.y + threadIdx.y;
    if (m >= M || n >= N) return;
    float total = 0.f;
    for (int k = 0; k < K; ++k) {
        float left = transpose_a ? a[k * M + m] : a[m * K + k];
        float right = transpose_b ? b[n * K + k] : b[k * N + n];
        total = fmaf(left, right, total);
    }
    y[m * N + n] = total;
}
