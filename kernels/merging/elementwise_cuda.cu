// Two arrays made one: their sum, four values to a thread, and one behind the other along the
// channels, one value to a thread.
//
// The sum moves 12 bytes for an addition, the other 8 bytes for none: both are as fast as memory
// is. Grid: ⌈values of y / (values of a thread · THREADS)⌉ blocks.

extern "C" __global__ void add_elementwise(float* __restrict__ y, const float* __restrict__ a,
                                           const float* __restrict__ b, unsigned size)
{
    unsigned first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= size) return;

    if (first + 4 > size) {  // the last values, fewer than four
        for (unsigned i = first; i < size; ++i) y[i] = a[i] + b[i];
        return;
    }
    float4 four = *reinterpret_cast<const float4*>(a + first), other = *reinterpret_cast<const float4*>(b + first);
    four.x += other.x;
    four.y += other.y;
    four.z += other.z;
    four.w += other.w;
    *reinterpret_cast<float4*>(y + first) = four;
}

extern "C" __global__ void weighted_sum_elementwise(float* __restrict__ y, const float* __restrict__ a,
                                                    const float* __restrict__ b, unsigned size, float of_a, float of_b)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = fmaf(of_a, a[i], of_b * b[i]);
}

// VALUE is float4 where A and B are multiples of four, else float; both count VALUEs.
extern "C" __global__ void concatenate_elementwise(float* __restrict__ y, const float* __restrict__ a,
                                                   const float* __restrict__ b, unsigned size, unsigned A, unsigned B)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    unsigned row = i / (A + B), k = i - row * (A + B);
    const VALUE* from_a = reinterpret_cast<const VALUE*>(a);
    const VALUE* from_b = reinterpret_cast<const VALUE*>(b);
    reinterpret_cast<VALUE*>(y)[i] = k < A ? from_a[row * A + k] : from_b[row * B + k - A];
}
