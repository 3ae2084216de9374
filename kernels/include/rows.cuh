// Sums and maxima over the rows of an array (N, K), for blocks of (threads of a row, rows) threads
// as in shared/rows_launch.py.
//
// The threads of a row are a power of two. Up to 32 of them lie in one warp and exchange registers;
// more are whole warps, have the block to themselves and meet in shared memory. The order of adding
// depends on K alone.
//
// EVERY thread of the block must call these, also one whose row is beyond the last; each gets the
// result of its row.

__device__ inline unsigned row_of_thread() { return blockIdx.x * blockDim.y + threadIdx.y; }

// Moves pointers to arrays (N, K) to row n. Returns the number of its columns, 0 beyond the last row.
template <class... Pointers>
__device__ __forceinline__ unsigned enter_row(unsigned n, unsigned N, unsigned K, Pointers&... pointers)
{
    unsigned columns = n < N ? K : 0;
    ((pointers += n * columns), ...);
    return columns;
}

template <class Combine>
__device__ float over_row(float value, Combine combine)
{
    for (unsigned step = min(blockDim.x, 32u) / 2; step > 0; step /= 2)
        value = combine(value, __shfl_xor_sync(0xffffffffu, value, step));
    if (blockDim.x <= 32) return value;

    __shared__ float of_warp[32];
    __syncthreads();  // until all have read what the reduction before this one left here
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();  // until every warp has left its value
    value = of_warp[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) value = combine(value, of_warp[warp]);
    return value;
}

__device__ inline float row_sum(float value)
{
    return over_row(value, [](float a, float b) { return a + b; });
}

constexpr float LOWEST = -3.402823466e38f;  // what a thread without columns brings to a maximum

__device__ inline float row_max(float value)
{
    return over_row(value, [](float a, float b) { return fmaxf(a, b); });
}

// The largest x[k] with k < columns.
__device__ __forceinline__ float largest_of_row(const float* x, unsigned columns)
{
    float largest = LOWEST;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) largest = fmaxf(largest, x[k]);
    return row_max(largest);
}

// Σ x[k] over k < columns
__device__ __forceinline__ float sum_of_row(const float* x, unsigned columns)
{
    float total = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) total += x[k];
    return row_sum(total);
}

// Σ exp(x[k] - largest) over k < columns
__device__ __forceinline__ float sum_of_exponentials(const float* x, unsigned columns, float largest)
{
    float total = 0.f;
    for (unsigned k = threadIdx.x; k < columns; k += blockDim.x) total += expf(x[k] - largest);
    return row_sum(total);
}
