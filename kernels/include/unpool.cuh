// The gradient of a maximum of 2 × 2 cells, as one of the cells sees it: all of dy at the cell that
// `index` names, 0 at the others.

constexpr int DEAD = 4;       // the index where no cell has it: f is relu, and the largest sum is not positive
constexpr int NO_CELL = 255;  // which no index names

__device__ inline float unpooled(float dy, int index, int cell) { return index == cell ? dy : 0.f; }

// The same of four neighbouring filters, whose indices are the bytes of `cells`.
__device__ inline float4 unpooled(float4 dy, unsigned cells, int cell)
{
    return make_float4(unpooled(dy.x, cells & 255, cell), unpooled(dy.y, cells >> 8 & 255, cell),
                       unpooled(dy.z, cells >> 16 & 255, cell), unpooled(dy.w, cells >> 24, cell));
}

// The same in memory. Nothing is loaded on a condition.
__device__ inline float4 unpooled(const float* dy, const unsigned char* index, int cell)
{
    return unpooled(*(const float4*)dy, *(const unsigned*)index, cell);
}
