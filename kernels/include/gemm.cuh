// A product of matrices by tiles, y (M, N) = a (M, K) · b (K, N): the core of every product in this
// folder.
//
// The product makes M · N · K multiplications of only M · K + K · N values, so each value is used
// again and again, and the art is to fetch it seldom. Three levels, each of which multiplies the
// uses of what the level above it has fetched:
//
//   block    TILE_M × TILE_N values of y. It walks along K by slabs: TILE_K columns of a and TILE_K
//            rows of b lie in shared memory. FLOPs for each byte of global memory:
//            TILE_M · TILE_N / (2 (TILE_M + TILE_N)), 32 for 128 × 128.
//   warp     LANES_M × LANES_N threads, in an order in which the 128-bit loads of a half-warp meet
//            each bank once.
//   thread   THREAD_M × THREAD_N sums in registers. FLOPs for each byte of shared memory:
//            THREAD_M · THREAD_N / (2 (THREAD_M + THREAD_N)), 2 for 8 × 8. All operands of an FMA
//            are registers, and that is what is fast.
//
// Double buffering: while the threads multiply one slab, the next one is on its way from global
// memory into registers, and then into the other half of shared memory. So the latency of global
// memory hides behind THREAD_M · THREAD_N · TILE_K FMAs of each thread, and a slab costs one
// barrier.
//
// Where the values come from is the business of a *source*: a type with
//   Share               which values of a slab this thread carries (Slab, below)
//   fetch(quads)        the thread's values of the next slab, in groups of four; zeros beyond the end of K
// `Matrix` reads a matrix in memory. A convolution brings a source that finds its values in images.
//
// A result with few tiles leaves most schedulers idle. With SLICES > 1 that many groups of warps share
// a tile: each multiplies its slice of every slab's k, and at the end the sums of the slices are added
// in shared memory, always in the same order.
//
// Of the compiler's command line: TILE_M TILE_N TILE_K THREADS THREAD_N LANES_M SLICES, and
// RESIDENT_BLOCKS, the number of blocks for which the registers of a multiprocessor must suffice.

constexpr int THREAD_M = 8;
constexpr int LANES_N = 32 / LANES_M;
constexpr int WARP_M = LANES_M * THREAD_M, WARP_N = LANES_N * THREAD_N;
constexpr int WARPS_N = TILE_N / WARP_N;
constexpr int SLICE_THREADS = THREADS / SLICES, SLICE_K = TILE_K / SLICES;
static_assert(THREAD_N % 4 == 0 && TILE_M % WARP_M == 0 && TILE_N % WARP_N == 0, "lanes read four neighbours at once");
static_assert(TILE_M / WARP_M * WARPS_N * 32 == SLICE_THREADS, "the warps of a slice cover the tile");
static_assert(SLICES == 1 || SLICE_K % 4 == 0, "a slice begins where a shift does");
static_assert((SLICES & (SLICES - 1)) == 0, "slices are added pairwise");

// In shared memory a slab is [k][row], so that a thread's neighbouring rows (of a; columns of b)
// are one 128-bit load. Every fourth k begins SHIFT floats later: a warp that brings values along
// k, and writes them across, then meets 32 banks.
constexpr int SHIFT = 128 / TILE_K;
constexpr int SLAB_A = TILE_M * TILE_K + 32, SLAB_B = TILE_N * TILE_K + 32;

template <int TILE> __device__ constexpr int place(int k) { return k * TILE + k / 4 * SHIFT; }

// The share of one thread in carrying a slab of TILE rows × TILE_K: COUNT quads of four values that
// are neighbours in memory, either along k or along the rows, STEP apart in the other direction.
template <int TILE, bool ALONG_K> struct Slab {
    static constexpr int ACROSS = (ALONG_K ? TILE_K : TILE) / 4;
    static constexpr int COUNT = TILE * TILE_K / 4 / THREADS;
    static constexpr int STEP = THREADS / ACROSS;
    static_assert(COUNT * THREADS * 4 == TILE * TILE_K && THREADS % ACROSS == 0, "all threads carry equally much");

    static __device__ int row() { return ALONG_K ? threadIdx.x / ACROSS : threadIdx.x % ACROSS * 4; }
    static __device__ int k() { return ALONG_K ? threadIdx.x % ACROSS * 4 : threadIdx.x / ACROSS; }

    static __device__ void store(float* slab, const float4 (&quads)[COUNT])
    {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (ALONG_K) {
                float* first = slab + place<TILE>(k()) + row() + i * STEP;
                first[0] = quads[i].x;
                first[TILE] = quads[i].y;
                first[2 * TILE] = quads[i].z;
                first[3 * TILE] = quads[i].w;
            } else {
                *(float4*)(slab + place<TILE>(k() + i * STEP) + row()) = quads[i];
            }
        }
    }
};

// How a matrix is read: value by value, in quads of 128 bits, or in whichever way its rows turn out
// to allow. The last keeps both ways in the main loop, where the instructions of the other one are
// in the way: for b, of which a thread carries less.
enum Loads { VALUES, QUADS, EITHER };

// A source that reads a matrix: rows (of a; columns of b) by k, at row · pitch + k, or the other
// way round at k · pitch + row. Rows beyond the last repeat it: their results are never written.
// Where the thread's quads begin is worked out once and moves on from slab to slab.
template <int TILE, bool ALONG_K, Loads LOADS> struct Matrix {
    using Share = Slab<TILE, ALONG_K>;
    const float* at[Share::COUNT];
    size_t step;
    int k_left;  // from this thread's first k of the slab to the end
    int rows_left;
    bool quads_allowed;

    // Quads need to be aligned, and to lie inside or outside as a whole.
    static __device__ bool allows_quads(const float* matrix, unsigned pitch, unsigned rows, unsigned end)
    {
        return (pitch | (ALONG_K ? end : rows)) % 4 == 0 && (size_t)matrix % 16 == 0;
    }

    __device__ Matrix(const float* matrix, unsigned pitch, unsigned rows, unsigned first_row, unsigned first_k,
                      unsigned end)
        : step(ALONG_K ? TILE_K : (size_t)TILE_K * pitch), k_left(end - first_k - Share::k()),
          quads_allowed(LOADS == EITHER ? allows_quads(matrix, pitch, rows, end) : LOADS == QUADS)
    {
        unsigned row = first_row + Share::row(), k = first_k + Share::k();
        rows_left = rows - min(row, rows - 1);
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i)
            at[i] = matrix + (ALONG_K ? min(row + i * Share::STEP, rows - 1) * pitch + k
                                      : (k + i * Share::STEP) * pitch + min(row, rows - (quads_allowed ? 4 : 1)));
    }

    __device__ void fetch(float4 (&quads)[Share::COUNT])
    {
        if (quads_allowed) {
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i)
                quads[i] =
                    (ALONG_K ? 0 : i * Share::STEP) < k_left ? *(const float4*)at[i] : make_float4(0.f, 0.f, 0.f, 0.f);
        } else {
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i)
                quads[i] = make_float4(value(i, 0), value(i, 1), value(i, 2), value(i, 3));
        }
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) at[i] += step;
        k_left -= TILE_K;
    }

    __device__ float value(int i, int e) const
    {
        return (ALONG_K ? e < k_left : i * Share::STEP < k_left && e < rows_left) ? at[i][e] : 0.f;
    }
};

// Where a thread's sums lie in the tile: in squares of four by four, 4 · LANES_M rows and
// 4 · LANES_N columns apart. The lowest bit of the lane counts rows, the next ones columns, the
// rest rows again: of two neighbouring lanes, and of two lanes that are 2 apart, one pair reads the
// same quad of a and the other the same quad of b. On this condition the hardware serves half a
// warp's 128-bit loads in one pass instead of two.
__device__ inline int first_m()
{
    int lane = threadIdx.x % 32, warp = threadIdx.x % SLICE_THREADS / 32;
    return warp / WARPS_N * WARP_M + 4 * (lane / (2 * LANES_N) * 2 + lane % 2);
}

__device__ inline int first_n()
{
    int lane = threadIdx.x % 32, warp = threadIdx.x % SLICE_THREADS / 32;
    return warp % WARPS_N * WARP_N + 4 * (lane / 2 % LANES_N);
}

__device__ constexpr int row_of(int i) { return i / 4 * 4 * LANES_M + i % 4; }
__device__ constexpr int column_of(int j) { return j / 4 * 4 * LANES_N + j % 4; }

template <int COUNT, int APART> __device__ void load(float (&values)[COUNT], const float* shared)
{
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
        float4 quad = *(const float4*)(shared + i * APART);
        values[i] = quad.x;
        values[i + 1] = quad.y;
        values[i + 2] = quad.z;
        values[i + 3] = quad.w;
    }
}

// The heart: sums += slab of a · slab of b, of this thread's slice, THREAD_M · THREAD_N FMAs for
// THREAD_M + THREAD_N loaded values.
__device__ inline void multiply_slab(float (&sums)[THREAD_M][THREAD_N], const float* a_slab, const float* b_slab)
{
#pragma unroll
    for (int k = 0; k < SLICE_K; ++k) {
        float a[THREAD_M], b[THREAD_N];
        load<THREAD_M, LANES_M>(a, a_slab + place<TILE_M>(k));
        load<THREAD_N, LANES_N>(b, b_slab + place<TILE_N>(k));
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
}

// Which slice of every slab this thread multiplies. The sums of the first are those that are written.
__device__ inline int slice_of_thread() { return threadIdx.x / SLICE_THREADS; }

// The sums of slice 0 become those of all slices; the others end as they are. EVERY thread of the
// block must call this. The exchange takes the place of the larger slabs.
__device__ inline void add_slices(float (&sums)[THREAD_M][THREAD_N], float* a_slabs, float* b_slabs)
{
    static_assert(SLICES / 2 * (TILE_M < TILE_N ? TILE_M : TILE_N) <= 2 * TILE_K,
                  "half of the slices fit into the larger slabs");
    float* exchange = (TILE_M > TILE_N ? a_slabs : b_slabs) + threadIdx.x % SLICE_THREADS;
#pragma unroll
    for (int half = SLICES / 2; half > 0; half /= 2) {
        int slice = slice_of_thread(), giver = slice - half;
        if (giver >= 0 && giver < half)
#pragma unroll
            for (int e = 0; e < THREAD_M * THREAD_N; ++e)
                exchange[(giver * THREAD_M * THREAD_N + e) * SLICE_THREADS] = sums[e / THREAD_N][e % THREAD_N];
        __syncthreads();  // the sums of the givers
        if (slice < half)
#pragma unroll
            for (int e = 0; e < THREAD_M * THREAD_N; ++e)
                sums[e / THREAD_N][e % THREAD_N] += exchange[(slice * THREAD_M * THREAD_N + e) * SLICE_THREADS];
        __syncthreads();  // they have been read, and the place is free again
    }
}

// sums = the products of all slabs of two sources, complete in slice 0. a_slabs and b_slabs are
// 2 · SLAB_A and 2 · SLAB_B floats of shared memory.
template <class A, class B>
__device__ void multiply(float (&sums)[THREAD_M][THREAD_N], A& a, B& b, int slabs, float* a_slabs, float* b_slabs)
{
    using ShareA = typename A::Share;
    using ShareB = typename B::Share;
    float4 next_a[ShareA::COUNT], next_b[ShareB::COUNT];
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) sums[i][j] = 0.f;
    a.fetch(next_a);
    b.fetch(next_b);
    ShareA::store(a_slabs, next_a);
    ShareB::store(b_slabs, next_b);
    __syncthreads();  // the first slab is complete
    int m = first_m() + slice_of_thread() * place<TILE_M>(SLICE_K);
    int n = first_n() + slice_of_thread() * place<TILE_N>(SLICE_K);
#pragma unroll 1
    for (int slab = 0; slab < slabs; ++slab) {
        a.fetch(next_a);
        b.fetch(next_b);
        int current = slab % 2, other = 1 - current;
        multiply_slab(sums, a_slabs + current * SLAB_A + m, b_slabs + current * SLAB_B + n);
        ShareA::store(a_slabs + other * SLAB_A, next_a);
        ShareB::store(b_slabs + other * SLAB_B, next_b);
        __syncthreads();  // the next slab is complete, and nobody reads this one any more
    }
    if (SLICES > 1) add_slices(sums, a_slabs, b_slabs);
}

// defines: Rows, AsIs, write, Task
#include "tile.cuh"

// One tile of a product of two matrices in memory.
template <bool TRANSPOSE_A, bool TRANSPOSE_B, Loads LOADS_OF_A, class Finish>
__device__ void product(float* y, const float* a, const float* b, unsigned M, unsigned N, const Task& task,
                        unsigned pitch_y, unsigned pitch_a, unsigned pitch_b, bool add, float* a_slabs, float* b_slabs,
                        Finish finish)
{
    Matrix<TILE_M, !TRANSPOSE_A, LOADS_OF_A> rows_of_a(a, pitch_a, M, task.m, task.k, task.end);
    Matrix<TILE_N, TRANSPOSE_B, EITHER> columns_of_b(b, pitch_b, N, task.n, task.k, task.end);
    float sums[THREAD_M][THREAD_N];
    multiply(sums, rows_of_a, columns_of_b, task.slabs, a_slabs, b_slabs);
    if (slice_of_thread() == 0) write(Rows{y, pitch_y}, sums, task.m, task.n, M, N, add, finish);
}

// The same, where it is left to the matrices how a is read: `y` is where this block's part of K
// belongs, row m of it at m · pitch_y.
template <bool TRANSPOSE_A, bool TRANSPOSE_B, class Finish = AsIs>
__device__ void product(float* y, const float* a, const float* b, unsigned M, unsigned N, unsigned K, unsigned pitch_y,
                        unsigned pitch_a, unsigned pitch_b, unsigned length, bool add, float* a_slabs, float* b_slabs,
                        Finish finish = {})
{
    Task task(blockIdx.x, N, K, length);
    if (Matrix<TILE_M, !TRANSPOSE_A, QUADS>::allows_quads(a, pitch_a, M, task.end))
        product<TRANSPOSE_A, TRANSPOSE_B, QUADS>(y, a, b, M, N, task, pitch_y, pitch_a, pitch_b, add, a_slabs, b_slabs,
                                                 finish);
    else
        product<TRANSPOSE_A, TRANSPOSE_B, VALUES>(y, a, b, M, N, task, pitch_y, pitch_a, pitch_b, add, a_slabs, b_slabs,
                                                  finish);
}
