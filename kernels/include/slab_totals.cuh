// The sums of the columns of a product's right matrix, from the threads that carry it to shared memory:
// a gradient of the weight needs dz there, and the gradient of the bias is the sum of its columns.

// gemm.cuh comes before: it defines Slab.

// The columns of the tile, added up over all threads that carried a part of them: db.
// EVERY thread of the block must call this. `totals`, the
// slabs of b, are no longer in use.
__device__ inline void write_column_totals(float* db, float4 total, float* totals, unsigned n, unsigned K)
{
    using Share = Slab<TILE_N, false>;
    static_assert(4 * THREADS <= 2 * SLAB_B, "the totals fit into the slabs");
    *(float4*)(totals + Share::k() * TILE_N + Share::row()) = total;
    __syncthreads();  // waits for the totals of all threads
    for (unsigned column = threadIdx.x; column < TILE_N && n + column < K; column += THREADS) {
        float sum = 0.f;
#pragma unroll 4
        for (int lane = 0; lane < Share::STEP; ++lane) sum += totals[lane * TILE_N + column];
        db[n + column] = sum;
    }
}
