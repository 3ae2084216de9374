// Random affine maps: one thread for the eight random words and the six numbers of an image's map.
// All numbers are integers of 32 and 64 bits, so every device computes the same bits. N threads with
// about 200 operations each: nothing that a launch does not hide.

// defines: AUGMENT, philox
#include "philox.cuh"

// gpucnn/ops/affine.py states each of these functions.
__device__ __forceinline__ long long between(unsigned word, long long low, long long width)
{
    return low + ((word >> 4) * width >> 28);
}

// The sine of phase / 2^32 turns in units of 2^-30: a polynomial in each quarter.
__device__ __forceinline__ long long sine(long long phase)
{
    const long long quarter = 1ll << 30;
    long long rest = phase & (quarter - 1);
    long long t = phase >> 30 & 1 ? quarter - rest : rest;
    long long square = t * t >> 30;
    long long value = SINE_4;
    value = (value * square >> 30) + SINE_3;
    value = (value * square >> 30) + SINE_2;
    value = (value * square >> 30) + SINE_1;
    value = (value * square >> 30) + SINE_0;
    value = value * t >> 30;
    return phase >> 31 & 1 ? -value : value;
}

__device__ __forceinline__ long long product(long long factor, long long scale)
{
    return (factor * scale + (1ll << 29)) >> 30;
}

// Where coordinate 0 of the output lies along one axis of the input.
__device__ __forceinline__ long long start(long long along, long long across, unsigned cut, long long shift, int H,
                                           int P, int side, int other)
{
    int room = max(H - P, 0);
    long long cut_off = ((cut >> 1) * (room + 1ll) >> 31) * PIXEL - ((long long)room * PIXEL >> 1);
    long long middle = (H - 1ll) * PIXEL >> 1;
    return middle - (along * (side - 1) + across * (other - 1) >> 1) + cut_off - shift * H;
}

extern "C" __global__ void random_affine(int* __restrict__ maps, const long long* __restrict__ step, int count, int H,
                                         int W, int P, int Q, long long angle, long long angle_width, long long down,
                                         long long down_width, long long right, long long right_width, long long tall,
                                         long long tall_width, long long wide, long long wide_width, int one_zoom,
                                         int flip_rows, int flip_columns, unsigned long long seed, unsigned stream)
{
    int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    uint4 first = philox(make_uint4(2 * n, (unsigned)*step, stream, AUGMENT), seed);
    uint4 second = philox(make_uint4(2 * n + 1, (unsigned)*step, stream, AUGMENT), seed);

    long long turn = between(first.z, angle, angle_width);
    long long sin = sine(turn), cos = sine(turn + (1ll << 30));
    long long rows = between(second.y, tall, tall_width) + PIXEL;
    long long columns = between(one_zoom ? second.y : second.z, wide, wide_width) + PIXEL;
    if (flip_rows && first.x & 1) rows = -rows;
    if (flip_columns && first.y & 1) columns = -columns;

    long long a = product(cos, rows), b = product(sin, columns);
    long long d = product(-sin, rows), e = product(cos, columns);
    int* map = maps + 6 * n;
    map[0] = (int)a;
    map[1] = (int)b;
    map[2] = (int)start(a, b, first.x, between(first.w, down, down_width), H, P, P, Q);
    map[3] = (int)d;
    map[4] = (int)e;
    map[5] = (int)start(d, e, first.y, between(second.x, right, right_width), W, Q, P, Q);
}
