// Tiled matmul: y (M, N) = a (M, K) · b (K, N), one thread per output value, operands from shared
// memory. A block of TILE × TILE threads walks along K: it fetches a tile of a and a tile of b
// together, then each thread reads a row of the one and a column of the other, so that each value
// fetched from global memory serves TILE threads. Grid: x counts the tiles of y, along N first.

extern "C" __global__ void __launch_bounds__(TILE* TILE)
    matmul_tiled(float* __restrict__ y, const float* __restrict__ a, const float* __restrict__ b, unsigned M,
                 unsigned N, unsigned K, bool transpose_a, bool transpose_b)
{
    // One more column, which nothing is stored in: a transposed tile is written down a column, and
    // with rows of 33 floats the 32 threads of a warp meet 32 banks instead of one.
    __shared__ float a_tile[TILE][TILE + 1], b_tile[TILE][TILE + 1];
    unsigned tiles = (N + TILE - 1) / TILE;
    unsigned first_m = blockIdx.x / tiles * TILE, first_n = blockIdx.x % tiles * TILE;
    unsigned column = threadIdx.x, row = threadIdx.y;
    float total = 0.f;
    for (unsigned first_k = 0; first_k < K; first_k += TILE) {
        // Neighbouring threads (of a row) read neighbouring values in memory, whichever way the
        // matrix lies. Outside there are zeros; all threads must meet the barriers, so nobody
        // returns.
        if (transpose_a) {
            unsigned m = first_m + column, k = first_k + row;
            a_tile[column][row] = m < M && k < K ? a[k * M + m] : 0.f;
        } else {
            unsigned m = first_m + row, k = first_k + column;
            a_tile[row][column] = m < M && k < K ? a[m * K + k] : 0.f;
        }
        if (transpose_b) {
            unsigned n = first_n + row, k = first_k + column;
            b_tile[column][row] = n < N && k < K ? b[n * K + k] : 0.f;
        } else {
            unsigned n = first_n + column, k = first_k + row;
            b_tile[row][column] = n < N && k < K ? b[k * N + n] : 0.f;
        }
        __syncthreads();  // both tiles are complete
#pragma unroll
        for (int k = 0; k < TILE; ++k) total = fmaf(a_tile[row][k], b_tile[k][column], total);
        __syncthreads();  // everyone has read them
    }
    unsigned m = first_m + row, n = first_n + column;
    if (m < M && n < N) y[m * N + n] = total;
}
