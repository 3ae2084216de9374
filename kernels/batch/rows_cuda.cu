// Count the rows whose largest score is at their label: `lanes` neighbouring lanes of a warp for
// each row.
//   y = number of n with argmax_k scores[n, k] == labels[n]
//   (the first of several largest, NaN above all)
// A score and its place become one 64-bit key whose maximum is the answer, whatever the order in
// which lanes compare. Counts are integers: per thread, then per block, then (more than one block)
// over the blocks by a second launch. Traffic: scores once, 4 bytes for each comparison.

__device__ __forceinline__ unsigned long long key(float score, unsigned k)
{
    const unsigned SIGN = 0x80000000u;
    unsigned bits = __float_as_uint(score);
    if (bits == SIGN) bits = 0;                            // -0 and 0 are a tie
    unsigned ordered = bits & SIGN ? ~bits : bits | SIGN;  // grows with the score
    if (score != score) ordered = 0xFFFFFFFFu;
    return (unsigned long long)ordered << 32 | ~k;  // of equal scores the first is larger
}

__device__ __forceinline__ unsigned long long larger(unsigned long long a, unsigned long long b)
{
    return a > b ? a : b;
}

// The column of the largest score of a row, in every one of its lanes; all lanes of the warp must
// call it.
__device__ __forceinline__ unsigned largest(const float* row, bool present, unsigned K, unsigned lane, unsigned lanes)
{
    unsigned long long best = 0;
    if (present)
        for (unsigned k = lane; k < K; k += lanes) best = larger(best, key(row[k], k));
    for (unsigned distance = lanes / 2; distance; distance /= 2)
        best = larger(best, __shfl_xor_sync(0xFFFFFFFFu, best, distance));
    return ~(unsigned)best;
}

// Thread 0 writes the sum of all threads' counts.
__device__ __forceinline__ void sum_of_block(int* total, int count)
{
    __shared__ int counts[THREADS / 32];
    for (int distance = 16; distance; distance /= 2) count += __shfl_xor_sync(0xFFFFFFFFu, count, distance);
    if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = count;
    __syncthreads();  // the count of each warp is there
    if (threadIdx.x) return;
    int sum = 0;
    for (int warp = 0; warp < THREADS / 32; ++warp) sum += counts[warp];
    *total = sum;
}

__device__ __forceinline__ int correct_rows(const float* scores, const int* labels, const float* shares, unsigned N,
                                            unsigned K, unsigned lanes)
{
    unsigned lane = threadIdx.x % lanes, rows = THREADS / lanes;
    int count = 0;
    for (unsigned first = blockIdx.x * rows; first < N; first += gridDim.x * rows) {
        unsigned n = first + threadIdx.x / lanes;
        bool present = n < N;  // lanes without a row go along: their warp exchanges values
        unsigned found = largest(scores + n * K, present, K, lane, lanes);
        unsigned label = shares ? largest(shares + n * K, present, K, lane, lanes) : present ? (unsigned)labels[n] : 0;
        count += present && lane == 0 && found == label;
    }
    return count;
}

extern "C" __global__ void count_classes(int* __restrict__ counts, const float* __restrict__ scores,
                                         const int* __restrict__ labels, unsigned N, unsigned K, unsigned lanes)
{
    sum_of_block(counts + blockIdx.x, correct_rows(scores, labels, nullptr, N, K, lanes));
}

extern "C" __global__ void count_shares(int* __restrict__ counts, const float* __restrict__ scores,
                                        const float* __restrict__ labels, unsigned N, unsigned K, unsigned lanes)
{
    sum_of_block(counts + blockIdx.x, correct_rows(scores, nullptr, labels, N, K, lanes));
}

template <class Label>
__device__ __forceinline__ int correct_values(const float* scores, const Label* labels, unsigned size, float threshold)
{
    int count = 0;
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < size; i += gridDim.x * THREADS)
        count += Label(scores[i] > threshold) == labels[i];
    return count;
}

extern "C" __global__ void count_binary_integers(int* __restrict__ counts, const float* __restrict__ scores,
                                                 const int* __restrict__ labels, unsigned size, float threshold)
{
    sum_of_block(counts + blockIdx.x, correct_values(scores, labels, size, threshold));
}

extern "C" __global__ void count_binary_reals(int* __restrict__ counts, const float* __restrict__ scores,
                                              const float* __restrict__ labels, unsigned size, float threshold)
{
    sum_of_block(counts + blockIdx.x, correct_values(scores, labels, size, threshold));
}

// One block.
extern "C" __global__ void sum_counts(int* __restrict__ y, const int* __restrict__ counts, int blocks)
{
    int count = 0;
    for (int i = threadIdx.x; i < blocks; i += THREADS) count += counts[i];
    sum_of_block(y, count);
}
