// Column totals: the rows of a matrix added up in slices, and the slices by the last block of a tile
// to arrive, in one launch.
//
//     total[column] = Σ value(row · columns + column)     over all rows
//
// Grid: blocks of tiles side by side, then slices. Where one slice has all rows, its block writes
// the total, and `sums` (slices, columns) is not used.

// defines: sum_tile
#include "column_sums.cuh"
// defines: is_last_block
#include "last_block.cuh"

// What other blocks have written in this launch.
struct OfOtherBlocks {
    const float* sums;
    __device__ float operator()(unsigned i) const { return __ldcg(sums + i); }
};

template <class Value>
__device__ __forceinline__ void column_totals(float* total, float* sums, Value value, unsigned rows, unsigned columns,
                                              unsigned width, unsigned rows_per_slice)
{
    unsigned tiles = (columns + width - 1) / width, slices = gridDim.x / tiles;
    unsigned slice = blockIdx.x / tiles, tile = blockIdx.x % tiles, first = slice * rows_per_slice;
    float* result = slices > 1 ? sums + slice * columns : total;
    sum_tile(result, value, columns, width, tile, first, min(rows, first + rows_per_slice));
    if (slices > 1 && is_last_block(tile, slices))
        sum_tile(total, OfOtherBlocks{sums}, columns, width, tile, 0, slices);
}
