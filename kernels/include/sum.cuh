// A sum in two floats: `lost` gathers what the additions to `total` round away, so that the result
// is as good as one from additions with twice the digits, however many they are and whatever
// cancels. Knuth, "The art of computer programming", volume 2, 4.2.2, theorem B; Ogita, Rump,
// Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26, 2005. THREADS is the largest
// number of threads of a block.

struct Sum {
    float total, lost;
};

__device__ inline void add(Sum& sum, float value)
{
    float total = sum.total + value, seen = total - sum.total;  // seen: what of the value has arrived
    sum.lost += (sum.total - (total - seen)) + (value - seen);
    sum.total = total;
}

__device__ inline void add(Sum& sum, const Sum& other)
{
    add(sum, other.total);
    sum.lost += other.lost;
}

// sum + a · b, and what the product rounds away is not lost either. With `+ 0` it is a product that
// the compiler does not merge with the addition after it.
__device__ inline void add_product(Sum& sum, float a, float b)
{
    float product = fmaf(a, b, 0.f);
    add(sum, product);
    sum.lost += fmaf(a, b, -product);
}

// Once the total is infinite, what was lost is not a number any more.
__device__ inline float rounded(const Sum& sum)
{
    float result = sum.total + sum.lost;
    return result == result ? result : sum.total;
}

// Adds the sums of all threads with one threadIdx.x, in a fixed order, and gives every thread the
// totals. All threads of the block must come here; blockDim.y must be a power of two.
template <int COUNT> __device__ void add_columns(Sum (&sums)[COUNT])
{
    __shared__ Sum shared[COUNT][THREADS];
    unsigned t = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // until all have read the totals of the call before
    for (int j = 0; j < COUNT; ++j) shared[j][t] = sums[j];
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();  // until the upper half has written its sums
        if (threadIdx.y < half)
            for (int j = 0; j < COUNT; ++j) add(shared[j][t], shared[j][t + half * blockDim.x]);
    }
    __syncthreads();  // until the totals are written
    for (int j = 0; j < COUNT; ++j) sums[j] = shared[j][threadIdx.x];
}
