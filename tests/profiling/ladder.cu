// The rungs of two public ladders of SGEMM, in kernels of this project: c (n, n) = a (n, n) · b (n, n),
// row by row. n is a multiple of the tile.
//
// defines: BM BN BK TM TN THREADS; A_BY_COLUMNS (the slab of a is [k][row]), QUADS (loads of 128 bits),
// BY_WARPS (lanes in 4 × 8), BUFFERS (1, or 2: the next slab travels while this one is used)

extern "C" __global__ void naive(float* c, const float* a, const float* b, int n)
{
    int row = blockIdx.x * 32 + threadIdx.x, column = blockIdx.y * 32 + threadIdx.y;  // neighbours: n apart
    float sum = 0.f;
    for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + column];
    c[row * n + column] = sum;
}

extern "C" __global__ void coalesced(float* c, const float* a, const float* b, int n)
{
    int row = blockIdx.x * 32 + threadIdx.x / 32, column = blockIdx.y * 32 + threadIdx.x % 32;
    float sum = 0.f;
    for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + column];
    c[row * n + column] = sum;
}

// Where a thread's sums begin in the tile, and how far apart its groups of four lie.
__device__ inline void place(int& row, int& column)
{
    int t = threadIdx.x, lane = t % 32, warp = t / 32;
    if (BY_WARPS) {
        constexpr int ACROSS = BN / (8 * TN);
        row = warp / ACROSS * 4 * TM + lane / 8 * TM;
        column = warp % ACROSS * 8 * TN + lane % 8 * TN;
    } else {
        row = t / (BN / TN) * TM;
        column = t % (BN / TN) * TN;
    }
}

constexpr int WIDTH = QUADS ? 4 : 1;
constexpr int LOADS_A = BM * BK / (THREADS * WIDTH), LOADS_B = BK * BN / (THREADS * WIDTH);
static_assert(LOADS_A * THREADS * WIDTH == BM * BK && LOADS_B * THREADS * WIDTH == BK * BN, "whole loads");

struct Slab {
    float a[LOADS_A][WIDTH], b[LOADS_B][WIDTH];
};

__device__ inline void take(float (&to)[WIDTH], const float* from)
{
    if (QUADS) {
        float4 quad = *(const float4*)from;
        to[0] = quad.x, to[WIDTH > 1] = quad.y, to[WIDTH / 2] = quad.z, to[WIDTH - 1] = quad.w;
    } else
        to[0] = from[0];
}

__device__ inline void fetch(Slab& slab, const float* a, const float* b, int n)
{
#pragma unroll
    for (int i = 0; i < LOADS_A; ++i) {
        int e = (threadIdx.x + i * THREADS) * WIDTH;
        take(slab.a[i], a + e / BK * n + e % BK);
    }
#pragma unroll
    for (int i = 0; i < LOADS_B; ++i) {
        int e = (threadIdx.x + i * THREADS) * WIDTH;
        take(slab.b[i], b + e / BN * n + e % BN);
    }
}

__device__ inline void keep(const Slab& slab, float* as, float* bs)
{
#pragma unroll
    for (int i = 0; i < LOADS_A; ++i)
#pragma unroll
        for (int w = 0; w < WIDTH; ++w) {
            int e = (threadIdx.x + i * THREADS) * WIDTH + w, row = e / BK, k = e % BK;
            as[A_BY_COLUMNS ? k * BM + row : row * BK + k] = slab.a[i][w];
        }
#pragma unroll
    for (int i = 0; i < LOADS_B; ++i) {
        int e = (threadIdx.x + i * THREADS) * WIDTH;
        if (QUADS)
            *(float4*)(bs + e) =
                make_float4(slab.b[i][0], slab.b[i][WIDTH > 1], slab.b[i][WIDTH / 2], slab.b[i][WIDTH - 1]);
        else
            bs[e] = slab.b[i][0];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) tiled(float* c, const float* a, const float* b, int n)
{
    __shared__ __align__(16) float as[BUFFERS][BM * BK], bs[BUFFERS][BK * BN];
    a += (size_t)blockIdx.y * BM * n;
    b += (size_t)blockIdx.x * BN;
    int row, column;
    place(row, column);
    float sums[TM][TN] = {};
    Slab next;
    fetch(next, a, b, n);
    keep(next, as[0], bs[0]);
    __syncthreads();
#pragma unroll 1
    for (int k0 = 0, now = 0; k0 < n; k0 += BK, now = (now + 1) % BUFFERS) {
        bool more = k0 + BK < n;
        if (BUFFERS == 2 && more) fetch(next, a + k0 + BK, b + (size_t)(k0 + BK) * n, n);
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            float of_a[TM], of_b[TN];
#pragma unroll
            for (int i = 0; i < TM; ++i) of_a[i] = as[now][A_BY_COLUMNS ? k * BM + row + i : (row + i) * BK + k];
#pragma unroll
            for (int j = 0; j < TN; ++j) of_b[j] = bs[now][k * BN + column + j];
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] += of_a[i] * of_b[j];
        }
        if (BUFFERS == 1) {
            __syncthreads();
            if (more) fetch(next, a + k0 + BK, b + (size_t)(k0 + BK) * n, n);
        }
        if (more) keep(next, as[(now + 1) % BUFFERS], bs[(now + 1) % BUFFERS]);
        __syncthreads();
    }
    float* to = c + ((size_t)blockIdx.y * BM + row) * n + blockIdx.x * BN + column;
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) to[(size_t)i * n + j] = sums[i][j];
}
