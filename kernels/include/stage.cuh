// Filling shared memory by all threads of a block. Nobody waits here: __syncthreads() is for the caller.

constexpr int FLOATS = 10240;  // of shared memory, 40 of the 48 kB that a block has without asking

// store(i, load(i)) for each i below `count`. LOADS of a thread are under way before it stores the first:
// a compiler keeps loads behind the stores before them. Nothing is loaded on a condition.
template <int LOADS = 8, class Load, class Store> __device__ __forceinline__ void stage(int count, Load load,
                                                                                        Store store)
{
    for (int i = threadIdx.x; i < count; i += LOADS * blockDim.x) {
        decltype(load(0)) values[LOADS];
#pragma unroll
        for (int e = 0; e < LOADS; ++e) values[e] = load(min(i + e * (int)blockDim.x, count - 1));
#pragma unroll
        for (int e = 0; e < LOADS; ++e)
            if (i + e * (int)blockDim.x < count) store(i + e * blockDim.x, values[e]);
    }
}

// `high` rows of an image from `top` on, into shared memory: `wide` floats of each from `left` on, zeros
// outside of the image, which has H rows of `floats`.
__device__ __forceinline__ void load_band(float* band, const float* __restrict__ image, int high, int wide, int top,
                                          int left, int H, int floats)
{
    constexpr int LOADS = 8;
    int row = threadIdx.x / wide, at = threadIdx.x - row * wide;
    int rows = blockDim.x / wide, rest = blockDim.x - rows * wide;  // from a value of this thread to its next
    for (int i = threadIdx.x; i < high * wide; i += LOADS * blockDim.x) {
        float values[LOADS];
#pragma unroll
        for (int e = 0; e < LOADS; ++e) {
            int h = top + row, w = left + at;
            bool inside = row < high && (unsigned)h < (unsigned)H && (unsigned)w < (unsigned)floats;
            values[e] = inside ? image[h * floats + w] : 0.f;
            row += rows, at += rest;
            if (at >= wide) at -= wide, ++row;
        }
#pragma unroll
        for (int e = 0; e < LOADS; ++e)
            if (i + e * blockDim.x < high * wide) band[i + e * blockDim.x] = values[e];
    }
}
