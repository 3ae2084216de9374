// The gradient of a maximum of 2 × 2 cells, as one of the cells sees it: all of dy at the cell that
// `index` names, 0 at the others.

constexpr int NO_CELL = 255;  // which no index names

__device__ inline float unpooled(float dy, int index, int cell) { return index == cell ? dy : 0.f; }

// The same of four neighbouring filters. Nothing is loaded on a condition.
__device__ inline float4 unpooled(const float* dy, const unsigned char* index, int cell)
{
    float4 quad = *(const float4*)dy;
    unsigned cells = *(const unsigned*)index;
    return make_float4(unpooled(quad.x, cells & 255, cell), unpooled(quad.y, cells >> 8 & 255, cell),
                       unpooled(quad.z, cells >> 16 & 255, cell), unpooled(quad.w, cells >> 24, cell));
}
