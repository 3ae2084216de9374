// Tiled matmul: y (M, N) = a (M, K) · b (K, N), one thread per output value, operands from shared
// memory. A block of TILE × TILE threads walks along K: it fetches a tile of a and a tile of b
// together, then each thread reads a row of the one and a column of the other, so that each value
// fetched from global memory serves TILE threads. Grid: x counts the tiles of y, along N first.

// Fetches a tile of a matrix (rows, columns), with zeros outside of it; `transposed`: it lies in
// memory as (columns, rows). Neighbouring threads read neighbouring values, whichever way it lies.
__device__ __forceinline__ void fetch(float (&tile)[TILE][TILE + 1], const float* matrix, unsigned rows,
                                      unsigned columns, unsigned first_row, unsigned first_column, bool transposed)
{
    if (transposed) {
        unsigned row = first_row + threadIdx.x, column = first_column + threadIdx.y;
        tile[threadIdx.x][threadIdx.y] = row < rows && column < columns ? matrix[column * rows + row] : 0.f;
    } else {
        unsigned row = first_row + threadIdx.y, column = first_column + threadIdx.x;
        tile[threadIdx.y][threadIdx.x] = row < rows && column < columns ? matrix[row * columns + column] : 0.f;
    }
}

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
        // All threads must meet the barriers, so those beyond the edge of y fetch too.
        fetch(a_tile, a, M, K, first_m, first_k, transpose_a);
        fetch(b_tile, b, K, N, first_k, first_n, transpose_b);
        __syncthreads();  // both tiles are complete
#pragma unroll
        for (int k = 0; k < TILE; ++k) total = fmaf(a_tile[row][k], b_tile[k][column], total);
        __syncthreads();  // everyone has read them
    }
    unsigned m = first_m + row, n = first_n + column;
    if (m < M && n < N) y[m * N + n] = total;
}
