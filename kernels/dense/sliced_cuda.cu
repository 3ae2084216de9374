// The gradients of a dense layer y = f(x (N, C) · weight (C, K) + b) in one launch, both products side
// by side:
//
//   dweight (C, K) = xᵀ · dz (N, K),  db (K) = Σ dz over rows     the first `tiles_of_weight` blocks
//   dx (N, C)      = dz · weightᵀ                                 the others
//
// dz, which is dy where y > 0 for relu, is never stored: what loads dy for a product looks at y as
// well. The threads that load it for dweight also add it up for db. Tiles are those of gemm.cuh with
// several slices; KEPT says whether there is a y.

// defines: THREAD_M, SLAB_A, SLAB_B, Slab, EITHER, Matrix, multiply, slice_of_thread
#include "gemm.cuh"
// defines: write_column_totals
#include "slab_totals.cuh"

// dz by rows and k, or the other way round, with the sum of what this thread has carried.
template <int TILE, bool ALONG_K> struct Gradient {
    using Share = Slab<TILE, ALONG_K>;
    Matrix<TILE, ALONG_K, EITHER> dy, kept;
    float4 total;

    __device__ Gradient(const float* dy, const float* y, unsigned pitch, unsigned rows, unsigned first_row,
                        unsigned first_k, unsigned end)
        : dy(dy, pitch, rows, first_row, first_k, end), kept(KEPT ? y : dy, pitch, rows, first_row, first_k, end),
          total(make_float4(0.f, 0.f, 0.f, 0.f))
    {
    }

    __device__ void fetch(float4 (&quads)[Share::COUNT])
    {
        dy.fetch(quads);
        if (KEPT) {
            float4 results[Share::COUNT];
            kept.fetch(results);
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i) {
                quads[i].x = results[i].x <= 0.f ? 0.f : quads[i].x;
                quads[i].y = results[i].y <= 0.f ? 0.f : quads[i].y;
                quads[i].z = results[i].z <= 0.f ? 0.f : quads[i].z;
                quads[i].w = results[i].w <= 0.f ? 0.f : quads[i].w;
            }
        }
#pragma unroll
        for (int i = 0; i < Share::COUNT; ++i) {
            total.x += quads[i].x;
            total.y += quads[i].y;
            total.z += quads[i].z;
            total.w += quads[i].w;
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
    dense_grad_sliced(float* __restrict__ dweight, float* __restrict__ db, float* __restrict__ dx,
                      const float* __restrict__ dy, const float* __restrict__ y, const float* __restrict__ x,
                      const float* __restrict__ weight, unsigned N, unsigned C, unsigned K, unsigned tiles_of_weight)
{
    __align__(16) __shared__ float a_slabs[2 * SLAB_A], b_slabs[2 * SLAB_B];  // one half is read while the other fills
    float sums[THREAD_M][THREAD_N];
    if (blockIdx.x < tiles_of_weight) {
        Task task(blockIdx.x, K, N, N);
        Matrix<TILE_M, false, EITHER> inputs(x, C, C, task.m, task.k, task.end);
        Gradient<TILE_N, false> dz(dy, y, K, K, task.n, task.k, task.end);
        multiply(sums, inputs, dz, task.slabs, a_slabs, b_slabs);
        if (task.m == 0) write_column_totals(db, dz.total, b_slabs, task.n, K);
        if (slice_of_thread() == 0) write(Rows{dweight, K}, sums, task.m, task.n, C, K, false);
    } else {
        Task task(blockIdx.x - tiles_of_weight, C, K, K);
        Gradient<TILE_M, true> dz(dy, y, K, N, task.m, task.k, task.end);
        Matrix<TILE_N, true, EITHER> weights(weight, K, C, task.n, task.k, task.end);
        multiply(sums, dz, weights, task.slabs, a_slabs, b_slabs);
        if (slice_of_thread() == 0) write(Rows{dx, C}, sums, task.m, task.n, N, C, false);
    }
}
