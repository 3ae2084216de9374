// Batch normalisation of x, `rows` rows of C channels, and its gradients: y = (x -
// mean) · slope + beta with slope = gamma / √(variance + epsilon), mean and variance being those of
// a channel over all rows.
//
// The rows are cut into slices. A block takes one slice of one group of channels: blockDim.x
// threads side by side have PACK channels each, and blockDim.y threads (a power of two) share the
// rows. One launch leaves sums for each slice; in the next, every block first adds up those of its
// channels, always in the same order, and then visits its rows. Grid: groups of channels × slices.

// defines: Pack, load, store, filled
#include "pack.cuh"
// defines: stream
#include "stream.cuh"
// defines: Sum, add, add_product, rounded, add_columns
#include "sum.cuh"

// What a thread works on: channels c … c + PACK - 1 in rows first + threadIdx.y,
// first + threadIdx.y + blockDim.y, … below last. Threads beyond the last channel have no rows, and
// must still meet the barriers.
struct Part {
    unsigned c;
    bool exists;
    unsigned first, last;
};

__device__ unsigned rows_per_slice(unsigned rows, unsigned slices) { return (rows - 1) / slices + 1; }

__device__ Part part(unsigned rows, unsigned C)
{
    unsigned c = (blockIdx.x * blockDim.x + threadIdx.x) * PACK, size = rows_per_slice(rows, gridDim.y);
    unsigned first = blockIdx.y * size;
    return {c, c < C, first, c < C ? min(first + size, rows) : first};
}

// visit(row, read(row)) for each row of the thread
template <class Read, class Visit> __device__ void for_rows(const Part& at, Read read, Visit visit)
{
    stream(at.first + threadIdx.y, at.last, blockDim.y, read, visit);
}

// dy and x at one place
struct Two {
    Pack gradient, value;
};

__device__ Pack load_or(const float* p, unsigned c, float value) { return p ? load(p + c) : filled(value); }

// 1 / √(variance + epsilon)
__device__ Pack scales(Pack variance, float epsilon)
{
    for (int j = 0; j < PACK; ++j) variance.lane[j] = 1.f / sqrtf(variance.lane[j] + epsilon);
    return variance;
}

// Of each slice: the sum of x, and the sum of (x - mean of the slice)². The second pass goes
// backwards: what was read last is still in a cache.
extern "C" __global__ void __launch_bounds__(THREADS)
    batchnorm_statistics(float* __restrict__ sums, float* __restrict__ squares, const float* __restrict__ x,
                         unsigned rows, unsigned C)
{
    Part at = part(rows, C);
    Sum total[PACK] = {}, spread[PACK] = {};
    for_rows(
        at, [&](unsigned row) { return load(x + row * C + at.c); },
        [&](unsigned, const Pack& value) {
            for (int j = 0; j < PACK; ++j) add(total[j], value.lane[j]);
        });
    add_columns(total);
    Pack sum, mean;
    for (int j = 0; j < PACK; ++j) {
        sum.lane[j] = rounded(total[j]);
        mean.lane[j] = sum.lane[j] / (float)(at.last - at.first);
    }
    unsigned ends = at.first + at.last - 1;
    for_rows(
        at, [&](unsigned row) { return load(x + (ends - row) * C + at.c); },
        [&](unsigned, const Pack& value) {
            for (int j = 0; j < PACK; ++j) {
                float centred = value.lane[j] - mean.lane[j];
                add_product(spread[j], centred, centred);
            }
        });
    add_columns(spread);
    if (!at.exists || threadIdx.y != 0) return;
    Pack square;
    for (int j = 0; j < PACK; ++j) square.lane[j] = rounded(spread[j]);
    store(sums + blockIdx.y * C + at.c, sum);
    store(squares + blockIdx.y * C + at.c, square);
}

// Mean and variance from those of the slices: the squares around the mean of all are those around
// the mean of each slice and, for every row, the square of the distance between the two means.
// Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances", 1979.
__device__ void join_slices(Pack& mean, Pack& variance, const float* sums, const float* squares, Part at, unsigned rows,
                            unsigned slices, unsigned C)
{
    unsigned size = rows_per_slice(rows, slices);
    Sum total[PACK] = {}, spread[PACK] = {};
    if (at.exists) {
        for (unsigned i = threadIdx.y; i < slices; i += blockDim.y) {
            Pack sum = load(sums + i * C + at.c);
            for (int j = 0; j < PACK; ++j) add(total[j], sum.lane[j]);
        }
    }
    add_columns(total);
    for (int j = 0; j < PACK; ++j) mean.lane[j] = rounded(total[j]) / (float)rows;
    if (at.exists) {
        for (unsigned i = threadIdx.y; i < slices; i += blockDim.y) {
            Pack sum = load(sums + i * C + at.c), square = load(squares + i * C + at.c);
            float count = (float)min(size, rows - i * size);
            for (int j = 0; j < PACK; ++j) {
                float distance = sum.lane[j] / count - mean.lane[j];
                add(spread[j], square.lane[j]);
                add_product(spread[j], count * distance, distance);
            }
        }
    }
    add_columns(spread);
    for (int j = 0; j < PACK; ++j) variance.lane[j] = rounded(spread[j]) / (float)rows;
}

// y for the thread's rows.
__device__ void normalise(float* y, const float* x, const float* gamma, const float* beta, const Pack& mean,
                          const Pack& variance, Part at, unsigned C, float epsilon)
{
    Pack slope = scales(variance, epsilon), factor = load_or(gamma, at.c, 1.f), shift = load_or(beta, at.c, 0.f);
    for (int j = 0; j < PACK; ++j) slope.lane[j] *= factor.lane[j];
    for_rows(
        at, [&](unsigned row) { return load(x + row * C + at.c); },
        [&](unsigned row, Pack value) {
            for (int j = 0; j < PACK; ++j)
                value.lane[j] = (value.lane[j] - mean.lane[j]) * slope.lane[j] + shift.lane[j];
            store(y + row * C + at.c, value);
        });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    batchnorm_normalise(float* __restrict__ y, float* __restrict__ mean, float* __restrict__ variance,
                        const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ beta,
                        const float* __restrict__ sums, const float* __restrict__ squares, unsigned rows,
                        unsigned slices, unsigned C, float epsilon)
{
    Part at = part(rows, C);
    Pack centre, spread;
    join_slices(centre, spread, sums, squares, at, rows, slices, C);
    if (!at.exists) return;
    if (blockIdx.y == 0 && threadIdx.y == 0) {
        store(mean + at.c, centre);
        store(variance + at.c, spread);
    }
    normalise(y, x, gamma, beta, centre, spread, at, C, epsilon);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    batchnorm_inference(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ gamma,
                        const float* __restrict__ beta, const float* __restrict__ mean,
                        const float* __restrict__ variance, unsigned rows, unsigned C, float epsilon)
{
    Part at = part(rows, C);
    if (!at.exists) return;
    normalise(y, x, gamma, beta, load(mean + at.c), load(variance + at.c), at, C, epsilon);
}

// Of each slice: the sums of dy and of dy · x, both parts of each, as partial[0 … 3][slice]. Where
// mean and variance are constants, dx needs no sums: unless dx is null, dy · slope is written on
// the way.
extern "C" __global__ void __launch_bounds__(THREADS)
    batchnorm_grad_sums(float* __restrict__ partial, float* __restrict__ dx, const float* __restrict__ dy,
                        const float* __restrict__ x, const float* __restrict__ gamma,
                        const float* __restrict__ variance, unsigned rows, unsigned C, float epsilon)
{
    Part at = part(rows, C);
    Sum sums[2 * PACK] = {};  // of dy, then of dy · x
    Pack slope = filled(0.f);
    if (dx && at.exists) {
        Pack factor = load_or(gamma, at.c, 1.f);
        slope = scales(load(variance + at.c), epsilon);
        for (int j = 0; j < PACK; ++j) slope.lane[j] *= factor.lane[j];
    }
    auto read = [&](unsigned row) { return Two{load(dy + row * C + at.c), load(x + row * C + at.c)}; };
    for_rows(at, read, [&](unsigned row, Two both) {
        for (int j = 0; j < PACK; ++j) {
            add(sums[j], both.gradient.lane[j]);
            add_product(sums[PACK + j], both.gradient.lane[j], both.value.lane[j]);
            both.gradient.lane[j] *= slope.lane[j];
        }
        if (dx) store(dx + row * C + at.c, both.gradient);
    });
    add_columns(sums);
    if (!at.exists || threadIdx.y != 0) return;
    for (int i = 0; i < 2; ++i) {
        Pack total, lost;
        for (int j = 0; j < PACK; ++j) total.lane[j] = sums[i * PACK + j].total, lost.lane[j] = sums[i * PACK + j].lost;
        store(partial + ((2 * i) * gridDim.y + blockIdx.y) * C + at.c, total);
        store(partial + ((2 * i + 1) * gridDim.y + blockIdx.y) * C + at.c, lost);
    }
}

// dbeta = Σ dy and dgamma = Σ dy · (x - mean) · scale = (Σ dy · x - mean · Σ dy) · scale, where the
// difference may be much smaller than its terms: sums in two floats have the digits for that.
// Unless dx is null, also dx = (dy - dbeta / rows - (x -
// mean) · scale · dgamma / rows) · gamma · scale.
extern "C" __global__ void __launch_bounds__(THREADS)
    batchnorm_grad_join(float* __restrict__ dx, float* __restrict__ dgamma, float* __restrict__ dbeta,
                        const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ gamma,
                        const float* __restrict__ mean, const float* __restrict__ variance,
                        const float* __restrict__ partial, unsigned rows, unsigned slices, unsigned C, float epsilon)
{
    Part at = part(rows, C);
    Sum sums[2 * PACK] = {};
    if (at.exists) {
        for (unsigned slice = threadIdx.y; slice < slices; slice += blockDim.y)
            for (int i = 0; i < 2; ++i) {
                Pack total = load(partial + ((2 * i) * slices + slice) * C + at.c);
                Pack lost = load(partial + ((2 * i + 1) * slices + slice) * C + at.c);
                for (int j = 0; j < PACK; ++j) add(sums[i * PACK + j], Sum{total.lane[j], lost.lane[j]});
            }
    }
    add_columns(sums);
    if (!at.exists) return;

    Pack centre = load(mean + at.c), scale = scales(load(variance + at.c), epsilon), to_gamma, to_beta;
    for (int j = 0; j < PACK; ++j) {
        const Sum& plain = sums[j];
        Sum product = sums[PACK + j];
        add_product(product, -centre.lane[j], plain.total);
        product.lost -= centre.lane[j] * plain.lost;
        to_gamma.lane[j] = rounded(product) * scale.lane[j];
        to_beta.lane[j] = rounded(plain);
    }
    if (blockIdx.y == 0 && threadIdx.y == 0) {
        store(dgamma + at.c, to_gamma);
        store(dbeta + at.c, to_beta);
    }
    if (!dx) return;

    Pack slope = load_or(gamma, at.c, 1.f), level, tilt;
    for (int j = 0; j < PACK; ++j) {
        slope.lane[j] *= scale.lane[j];
        level.lane[j] = to_beta.lane[j] / (float)rows;
        tilt.lane[j] = to_gamma.lane[j] / (float)rows * scale.lane[j];
    }
    auto read = [&](unsigned row) { return Two{load(dy + row * C + at.c), load(x + row * C + at.c)}; };
    for_rows(at, read, [&](unsigned row, Two both) {
        for (int j = 0; j < PACK; ++j) {
            float flat = both.gradient.lane[j] - level.lane[j];
            both.gradient.lane[j] = (flat - (both.value.lane[j] - centre.lane[j]) * tilt.lane[j]) * slope.lane[j];
        }
        store(dx + row * C + at.c, both.gradient);
    });
}
