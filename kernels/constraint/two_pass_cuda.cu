// Slices scaled to a norm within bounds: squares are added up in one pass over w, and w is scaled
// in another.
//   w = w · desired / (1e-7 + norm)
//   desired = rate · min(max(norm, low), high) + (1 - rate) · norm
// Grid: (groups of SLICES slices, chunks of their elements); a block has LANES threads for each of
// its slices. Both passes walk through memory in the order in which it lies: where neighbours
// belong to different slices (`across`), so do neighbouring threads, else they are lanes of one
// slice.
const float EPSILON = 1e-7f;

struct Place {
    unsigned inner, outer_stride, inner_stride;
};

__device__ __forceinline__ unsigned at(Place place, unsigned i)
{
    return i / place.inner * place.outer_stride + i % place.inner * place.inner_stride;
}

// Where one thread is: its slice, which may be beyond the last, its lane, and the elements that its
// block handles.
struct Share {
    unsigned in_block, slice, lane, begin, end;
};

__device__ __forceinline__ Share my_share(unsigned length, unsigned lanes, bool across)
{
    Share share;
    unsigned slices = THREADS / lanes, t = threadIdx.x;
    share.in_block = across ? t % slices : t / lanes;
    share.lane = across ? t / slices : t % lanes;
    share.slice = blockIdx.x * slices + share.in_block;
    unsigned chunk = length / gridDim.y + (length % gridDim.y > 0);
    share.begin = min(blockIdx.y * chunk, length);
    share.end = min(share.begin + chunk, length);
    return share;
}

// partial (chunks, count): the sum of squares of each chunk of each slice.
extern "C" __global__ void sum_squares(float* partial, const float* w, unsigned count, unsigned length,
                                       unsigned slice_inner, unsigned slice_outer_stride, unsigned slice_inner_stride,
                                       unsigned inner, unsigned outer_stride, unsigned inner_stride, unsigned lanes,
                                       bool across)
{
    __shared__ float sums[THREADS];  // by slice of the block, then by lane
    Share my = my_share(length, lanes, across);
    Place slices = {slice_inner, slice_outer_stride, slice_inner_stride},
          elements = {inner, outer_stride, inner_stride};
    float total = 0.f;
    if (my.slice < count) {
        const float* start = w + at(slices, my.slice);
        for (unsigned i = my.begin + my.lane; i < my.end; i += lanes) {
            float value = start[at(elements, i)];
            total += value * value;
        }
    }
    float* mine = sums + my.in_block * lanes + my.lane;
    *mine = total;
    for (unsigned half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();  // all sums of the step before are there
        if (my.lane < half) *mine += mine[half];
    }
    if (my.lane == 0 && my.slice < count) partial[blockIdx.y * count + my.slice] = *mine;
}

extern "C" __global__ void scale_slices(float* w, const float* partial, unsigned count, unsigned length,
                                        unsigned slice_inner, unsigned slice_outer_stride, unsigned slice_inner_stride,
                                        unsigned inner, unsigned outer_stride, unsigned inner_stride, unsigned lanes,
                                        bool across, float low, float high, float rate, float rest)
{
    Share my = my_share(length, lanes, across);
    if (my.slice >= count) return;
    Place slices = {slice_inner, slice_outer_stride, slice_inner_stride},
          elements = {inner, outer_stride, inner_stride};
    float total = 0.f;
    for (unsigned chunk = 0; chunk < gridDim.y; ++chunk) total += partial[chunk * count + my.slice];
    float norm = sqrtf(total), desired = fminf(fmaxf(norm, low), high);
    if (rest > 0.f) desired = rate * desired + rest * norm;
    float factor = desired / (EPSILON + norm);  // NaN if the norm is, whatever fminf made of it
    float* start = w + at(slices, my.slice);
    for (unsigned i = my.begin + my.lane; i < my.end; i += lanes) start[at(elements, i)] *= factor;
}
