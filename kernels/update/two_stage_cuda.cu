// Sums over a flat array in two stages: every block adds up its share, then one block adds up the
// blocks' sums.
//   norm_parts: scale = largest power of two up to max |x|, total = Σ (x / scale)²
//   penalty:    l1 · Σ|x| + l2 · Σ x²
// The order of adding depends on n alone, so a result is the same in every run. Grid: stage 1 up to
// MOST_BLOCKS blocks, a thread takes every so many-th group of 4 elements; stage 2 one block. An
// array that one block can do needs no second stage.
const float LEAST_SCALE = 1.17549435e-38f, MOST_SCALE = 8.50705917e+37f;  // 2⁻¹²⁶, 2¹²⁶
const float LARGEST = 3.40282347e+38f;                                    // of all finite numbers

// Two numbers that are summed up together.
struct Pair {
    float first, second;
};

// One thread's share of x, 4 elements at a time; what is left at the end (or all of x, if it does
// not start at a multiple of 16 bytes) one by one.
template <class Take>
__device__ __forceinline__ void over(const float* x, int n, Take take)
{
    unsigned threads = gridDim.x * THREADS, first = blockIdx.x * THREADS + threadIdx.x;
    unsigned groups = (unsigned long long)x % 16 ? 0 : n / 4;
#pragma unroll 4
    for (unsigned group = first; group < groups; group += threads) {
        float4 four = ((const float4*)x)[group];
        take(four.x, four.y, four.z, four.w);
    }
    for (unsigned i = 4 * groups + first; i < n; i += threads) take(x[i], 0.f, 0.f, 0.f);
}

// The pairs of all threads of the block, merged; thread 0 has the result.
template <class Merge>
__device__ __forceinline__ Pair of_block(Pair pair, Merge merge)
{
    __shared__ Pair of_warps[THREADS / 32];
    for (int distance = 16; distance > 0; distance /= 2) {
        Pair other = {__shfl_down_sync(0xffffffff, pair.first, distance),
                      __shfl_down_sync(0xffffffff, pair.second, distance)};
        pair = merge(pair, other);
    }
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = pair;
    __syncthreads();  // all warps have stored their pair
    if (threadIdx.x == 0)
        for (int warp = 1; warp < THREADS / 32; ++warp) pair = merge(pair, of_warps[warp]);
    return pair;
}

// One thread's share of the blocks' pairs.
template <class Merge>
__device__ __forceinline__ Pair of_blocks(Pair pair, const float* partial, int blocks, Merge merge)
{
    for (int block = threadIdx.x; block < blocks; block += THREADS) {
        Pair other = {partial[2 * block], partial[2 * block + 1]};
        pair = merge(pair, other);
    }
    return pair;
}

// A norm is (scale, total). Scales are powers of two, so bringing a total from one scale to another
// rounds nothing: the result is what it would be with the largest scale from the start, and x is
// read only once.
__device__ __forceinline__ Pair merged_norms(Pair a, Pair b)
{
    if (b.first > a.first || b.first != b.first) {
        Pair smaller = a;
        a = b;
        b = smaller;
    }
    float ratio = b.first / a.first;
    a.second += b.second * ratio * ratio;
    return a;
}

__device__ __forceinline__ void finish_norm(float* parts, Pair norm)
{
    bool finite = norm.first <= LARGEST;  // false for a NaN
    parts[0] = norm.second == 0.f ? 0.f : norm.first;
    parts[1] = finite ? norm.second : 1.f;
}

extern "C" __global__ void norm_of_blocks(float* parts, float* partial, const float* x, int n)
{
    Pair norm = {LEAST_SCALE, 0.f};
    float down = 1.f / LEAST_SCALE;
    over(x, n, [&](float a, float b, float c, float d) {
        // The bits of |x| as an integer rise with |x|; those of a NaN are above all others.
        int bits = max(max(__float_as_int(fabsf(a)), __float_as_int(fabsf(b))),
                       max(__float_as_int(fabsf(c)), __float_as_int(fabsf(d))));
        float largest = __int_as_float(bits);
        if (largest >= 2.f * norm.first || largest != largest) {
            const int INFINITE = 0x7f800000;  // all bits of the exponent, none of the mantissa
            float raised = bits < INFINITE ? fminf(__int_as_float(bits & INFINITE), MOST_SCALE) : largest;
            float ratio = norm.first / raised;
            norm.first = raised;
            norm.second *= ratio * ratio;
            down = 1.f / raised;
        }
        a *= down, b *= down, c *= down, d *= down;
        norm.second += (a * a + b * b) + (c * c + d * d);
    });
    norm = of_block(norm, merged_norms);
    if (threadIdx.x > 0) return;
    if (gridDim.x == 1) {
        finish_norm(parts, norm);
        return;
    }
    partial[2 * blockIdx.x] = norm.first;
    partial[2 * blockIdx.x + 1] = norm.second;
}

extern "C" __global__ void norm_of_all(float* parts, const float* partial, int blocks)
{
    Pair none = {LEAST_SCALE, 0.f};
    Pair norm = of_block(of_blocks(none, partial, blocks, merged_norms), merged_norms);
    if (threadIdx.x == 0) finish_norm(parts, norm);
}

__device__ __forceinline__ Pair added(Pair a, Pair b)
{
    a.first += b.first;
    a.second += b.second;
    return a;
}

// A factor of 0 leaves its sum out, even if that sum is infinite.
__device__ __forceinline__ void finish_penalty(float* penalty, Pair sums, float l1, float l2)
{
    penalty[0] = (l1 != 0.f ? l1 * sums.first : 0.f) + (l2 != 0.f ? l2 * sums.second : 0.f);
}

extern "C" __global__ void penalty_of_blocks(float* penalty, float* partial, const float* values, int n, float l1,
                                             float l2)
{
    Pair sums = {0.f, 0.f};
    over(values, n, [&](float a, float b, float c, float d) {
        sums.first += (fabsf(a) + fabsf(b)) + (fabsf(c) + fabsf(d));
        sums.second += (a * a + b * b) + (c * c + d * d);
    });
    sums = of_block(sums, added);
    if (threadIdx.x > 0) return;
    if (gridDim.x == 1) {
        finish_penalty(penalty, sums, l1, l2);
        return;
    }
    partial[2 * blockIdx.x] = sums.first;
    partial[2 * blockIdx.x + 1] = sums.second;
}

extern "C" __global__ void penalty_of_all(float* penalty, const float* partial, int blocks, float l1, float l2)
{
    Pair none = {0.f, 0.f};
    Pair sums = of_block(of_blocks(none, partial, blocks, added), added);
    if (threadIdx.x == 0) finish_penalty(penalty, sums, l1, l2);
}
