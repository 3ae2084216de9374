// Column sums: the rows of a matrix (rows, columns) added up in slices, for sums that are long and
// few.
//
//     sums[column] = Σ value(row · columns + column)     over the rows of one slice
//
// How a value comes about is the business of `value`: `InMemory` loads it; another type may compute
// it, and do more on this occasion. It is called once for each place.
//
// A block takes one slice and `width` ≤ 32 neighbouring columns, so that a warp reads whole lines
// of memory. Its threads form lanes of that width: lane l adds rows l, l + lanes, …, and a matrix
// of few columns is read as one stream. Each thread keeps four totals, for four loads in flight;
// then the lanes' totals are added pairwise in shared memory. Nothing in the order depends on
// timing, and a chain of additions is hundreds of times shorter than the sum.

struct InMemory {
    const float* __restrict__ matrix;
    __device__ float operator()(unsigned i) const { return __ldg(matrix + i); }
};

// The block's dynamic shared memory.
__device__ __forceinline__ float* totals_of_lanes()
{
    extern __shared__ float totals[];
    return totals;
}

// sums[column] for the columns of one tile over the rows first … end - 1. EVERY thread of the block
// must call this.
template <class Value>
__device__ __forceinline__ void sum_tile(float* __restrict__ sums, Value value, unsigned columns, unsigned width,
                                         unsigned tile, unsigned first, unsigned end)
{
    float* lane_totals = totals_of_lanes();  // one for each thread
    unsigned column = tile * width + threadIdx.x % width;
    unsigned lane = threadIdx.x / width, lanes = blockDim.x / width;

    float total[4] = {0.f, 0.f, 0.f, 0.f};
    if (lane < lanes && column < columns) {  // every thread must reach the barriers below
        unsigned row = first + lane;
        for (; row + 3 * lanes < end; row += 4 * lanes)
#pragma unroll
            for (int j = 0; j < 4; ++j) total[j] += value((row + j * lanes) * columns + column);
        for (; row < end; row += lanes) total[0] += value(row * columns + column);
    }
    lane_totals[threadIdx.x] = (total[0] + total[1]) + (total[2] + total[3]);

    while (lanes > 1) {
        unsigned half = (lanes + 1) / 2;
        __syncthreads();  // waits for the totals of the lanes that are added now
        if (lane + half < lanes) lane_totals[threadIdx.x] += lane_totals[threadIdx.x + half * width];
        lanes = half;
    }
    if (lane == 0 && column < columns) sums[column] = lane_totals[threadIdx.x];
}

// The same in a grid of one block for each slice and tile: sums[slice, column].
template <class Value>
__device__ __forceinline__ void column_sums(float* __restrict__ sums, Value value, unsigned rows, unsigned columns,
                                            unsigned width, unsigned rows_per_slice)
{
    unsigned tiles = (columns + width - 1) / width;
    unsigned slice = blockIdx.x / tiles, first = slice * rows_per_slice;
    sum_tile(sums + slice * columns, value, columns, width, blockIdx.x % tiles, first,
             min(rows, first + rows_per_slice));
}
