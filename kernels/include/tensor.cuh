// A product of matrices on tensor cores, y (M, N) = a (M, K) · b (K, N). What becomes of the factors is
// written in factors.cuh: by default the error is that of float32.
//
// Tensor cores round sums toward zero, at each step and always in the same direction. Over
// thousands of terms that would add up to more than float32 loses by rounding to the nearest. So with
// the error of float32 a tensor core sums only the TILE_K terms of a slab, small products first, and an
// ordinary addition adds that to the thread's sums. Factors in TF32 and bfloat16 are rounded thousands
// of times as coarsely, and there the sums stay in the tensor core.
//
//   block    TILE_M × TILE_N values of y. It walks along K by slabs of TILE_K. STAGES slabs of a and
//            b are in shared memory: one is multiplied while cp.async fills the others.
//   warp     WARP_M × 32 values. Each fragment is split or rounded when it is read from shared memory:
//            splitting it earlier, once for each block, would double the traffic of shared memory,
//            which is scarcer than instructions (a warp issues about 2 others for each matrix
//            instruction, which alone takes 4 to 8 cycles).
//   thread   WARP_M / 8 rows × 8 columns of sums.
//
// An infinity (or a finite number that rounds to one) splits into infinity and NaN, so all results
// that it takes part in are NaN or infinite. Therefore a tile that is not finite is computed again,
// plainly in float32 arithmetic, and the main loop pays nothing. So are the tiles of arrays that do
// not start at a multiple of 16 bytes.
//
// Where the values come from is the business of a *source*: a type with
//   Share                which quads of a slab this thread copies (below)
//   copy(slab)           starts the copies of the thread's values of the next slab; zeros beyond the
//                        end of K. That of b is called first: it may look at the place of a.
// `MatrixCopies` reads a matrix in memory. A convolution brings a source that finds its values in
// images.
//
// Of the compiler's command line: FACTOR_BITS, TILE_M TILE_N TILE_K THREADS WARP_M STAGES, and RESIDENT_BLOCKS,
// the number of blocks for which the registers of a multiprocessor must suffice.

constexpr int WARP_N = 32;
constexpr int THREAD_M = WARP_M / 8, THREAD_N = 8;
constexpr int WARPS_N = TILE_N / WARP_N;
static_assert(TILE_M % WARP_M == 0 && TILE_N % WARP_N == 0, "warps cover the tile");
static_assert(TILE_M / WARP_M * WARPS_N * 32 == THREADS, "one warp for each part of the tile");
constexpr int SLAB_A = TILE_M * TILE_K + 32, SLAB_B = TILE_N * TILE_K + 32;

// defines: copy_quad
#include "copies.cuh"
// defines: first_of_group, Quads
#include "slabs.cuh"

// A source that reads a matrix: rows (of a; columns of b) by k, at row · pitch + k, or the other way
// round at k · pitch + row. Where the values of a quad lie side by side, their extent is a multiple
// of 4. Rows beyond the last repeat it: their results are never written.
template <int TILE, bool ALONG_K, bool ALIGNED> struct MatrixCopies {
    using Share = Quads<TILE, ALONG_K>;
    const float* matrix;  // where the slab begins
    unsigned at[Share::COUNT];
    unsigned step;
    int to;
    int k_left;  // from this thread's first k of the slab to the end

    __device__ MatrixCopies(const float* matrix, unsigned pitch, unsigned rows, unsigned first_row, unsigned first_k,
                            unsigned end)
        : matrix(matrix + (ALONG_K ? first_k : (size_t)first_k * pitch)), step(ALONG_K ? TILE_K : TILE_K * pitch),
          to(Share::place(Share::row(), Share::k())), k_left(end - first_k - Share::k())
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            unsigned row = min(first_row + Share::row() + Share::rows_beyond(i), rows - (ALONG_K ? 1 : 4));
            unsigned k = Share::k() + Share::k_beyond(i);
            at[i] = ALONG_K ? row * pitch + k : k * pitch + row;
        }
    }

    __device__ void copy(float* slab)
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i)
            copy_quad<ALIGNED>(slab + to + Share::apart(i), matrix + at[i], Share::k_beyond(i) < k_left);
        matrix += step;
        k_left -= TILE_K;
    }
};

// A thread's rows and columns of the tile: sums[i][j] belongs to row first_m() + row_of(i) and to
// column first_n() + column_of(j).
__device__ inline int first_m() { return threadIdx.x / 32 / WARPS_N * WARP_M + first_of_group(threadIdx.x % 32 / 4); }
__device__ inline int first_n() { return threadIdx.x / 32 % WARPS_N * WARP_N + first_of_group(threadIdx.x % 4 * 2); }
__device__ constexpr int row_of(int i) { return i % 4 + i / 4 * 32; }
__device__ constexpr int column_of(int j) { return j % 4 + j / 4 * 8; }

// defines: Factors, load_factors, add_products, as_read
#include "factors.cuh"

// sums += slab of a · slab of b
template <class A, class B>
__device__ void multiply_slab(float (&sums)[THREAD_M][THREAD_N], const A& rows, const B& columns, const float* a_slab,
                              const float* b_slab)
{
    Factors a[4], b[4];
    load_factors(b, columns, b_slab);
#pragma unroll
    for (int part = 0; part < WARP_M / 32; ++part) {
        load_factors(a, rows, a_slab, part * 32);
        add_products(a, b, [&](int i, int j, int column) -> float& { return sums[part * 4 + i][column * 4 + j]; });
    }
}

// The same in float32 arithmetic, of factors as a tensor core reads them.
template <class A, class B>
__device__ void multiply_slab_plainly(float (&sums)[THREAD_M][THREAD_N], const float* a_slab, const float* b_slab)
{
    int m = first_m(), n = first_n();
#pragma unroll 1
    for (int k = 0; k < TILE_K; ++k) {
        float b[THREAD_N];
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) b[j] = as_read(b_slab[B::place(n + column_of(j), k)]);
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) {
            float a = as_read(a_slab[A::place(m + row_of(i), k)]);
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j) sums[i][j] = fmaf(a, b[j], sums[i][j]);
        }
    }
}

// sums = the products of all slabs of two sources, PLAINLY in float32 arithmetic. a_slabs and
// b_slabs are STAGES · SLAB_A and STAGES · SLAB_B floats of shared memory, which no thread uses any
// more.
template <bool PLAINLY, class A, class B>
__device__ void multiply(float (&sums)[THREAD_M][THREAD_N], A& a, B& b, int slabs, float* a_slabs, float* b_slabs)
{
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) sums[i][j] = 0.f;
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < slabs) {
            b.copy(b_slabs + stage * SLAB_B);
            a.copy(a_slabs + stage * SLAB_A);
        }
        asm volatile("cp.async.commit_group;");
    }
    int warp = threadIdx.x / 32, current = 0, next = STAGES - 1;
    typename A::Share::Fragment rows(warp / WARPS_N * WARP_M);
    typename B::Share::Fragment columns(warp % WARPS_N * WARP_N);
#pragma unroll 1
    for (int slab = 0; slab < slabs; ++slab) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();  // the current slab is complete, and nobody reads the one before any more
        if (slab + STAGES - 1 < slabs) {
            b.copy(b_slabs + next * SLAB_B);
            a.copy(a_slabs + next * SLAB_A);
        }
        asm volatile("cp.async.commit_group;");
        if (PLAINLY)
            multiply_slab_plainly<typename A::Share, typename B::Share>(sums, a_slabs + current * SLAB_A,
                                                                        b_slabs + current * SLAB_B);
        else
            multiply_slab(sums, rows, columns, a_slabs + current * SLAB_A, b_slabs + current * SLAB_B);
        current = current + 1 == STAGES ? 0 : current + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }
}

__device__ inline bool aligned(const float* one, const float* other) { return ((size_t)one | (size_t)other) % 16 == 0; }

// defines: compute
#include "finite.cuh"
// defines: Rows, AsIs, write, Task
#include "tile.cuh"

// The block's tile of a product of two matrices in memory, each as it is written above or turned:
// `y` is where its part of K belongs.
template <bool TURN_A, bool TURN_B, class Finish = AsIs>
__device__ __forceinline__ void product(float* y, const float* a, const float* b, unsigned M, unsigned N, unsigned K,
                                        unsigned length, Finish finish = {})
{
    __align__(16) __shared__ float a_slabs[STAGES * SLAB_A], b_slabs[STAGES * SLAB_B];
    unsigned pitch_a = TURN_A ? M : K, pitch_b = TURN_B ? K : N;
    Task task(blockIdx.x, N, K, length);
    float sums[THREAD_M][THREAD_N];
    compute(
        sums, aligned(a, b),
        [&] {
            MatrixCopies<TILE_M, !TURN_A, true> rows_of_a(a, pitch_a, M, task.m, task.k, task.end);
            MatrixCopies<TILE_N, TURN_B, true> columns_of_b(b, pitch_b, N, task.n, task.k, task.end);
            multiply<false>(sums, rows_of_a, columns_of_b, task.slabs, a_slabs, b_slabs);
        },
        [&] {
            MatrixCopies<TILE_M, !TURN_A, false> rows_of_a(a, pitch_a, M, task.m, task.k, task.end);
            MatrixCopies<TILE_N, TURN_B, false> columns_of_b(b, pitch_b, N, task.n, task.k, task.end);
            multiply<true>(sums, rows_of_a, columns_of_b, task.slabs, a_slabs, b_slabs);
        });
    write(Rows{y, N}, sums, task.m, task.n, M, N, false, finish);
}
