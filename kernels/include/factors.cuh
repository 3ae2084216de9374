// How a warp multiplies on tensor cores: 16 rows of a by 32 columns of b over 16 k, for tensor.cuh.
// FACTOR_BITS says what becomes of the factors, which are float32 in memory; sums are float32 always.
//
//   32   float32, by 3xTF32. A tensor core multiplies numbers of 11 significant bits (TF32). A float32
//        has 24, so each value is split into two such numbers, and three products take the place of one:
//
//          x = big + small      big: x rounded to 11 bits; small: the difference, exact, of at most 12 bits
//          a · b ≈ big · big + (big · small + small · big)
//
//        What is lost is small · small and the last bit of each small: at most 2^-22 + 2 · 2^-23 of
//        |a · b|, with either sign. A split is three instructions, two to round and one to subtract: the
//        tensor core itself ignores the 13 low bits of small. (Below 2^-114, where small is a denormal
//        number, which is flushed to zero, fewer bits remain.)
//   19   TF32: x rounded to 11 significant bits, to the nearest, ties away from zero.
//   16   bfloat16: x rounded to 8 significant bits, to the nearest, ties to even. Two of them share a
//        register, and one instruction multiplies 16 k.

// The four k of a row of a, or of a column of b, that a thread holds; and their products by the 32 lanes of
// a warp. The instruction's k are only names: its t stands for four neighbouring k.
//
// Factors can wait in shared memory, in up to four words of each of ARRAYS arrays, which lie `apart`.
//
// m16n8k8: lane (group, t) holds a[group][t], a[group + 8][t], a[group][t + 4], a[group + 8][t + 4];
// b[t][group], b[t + 4][group]; and c[group][2 t], c[group][2 t + 1], c[group + 8][2 t],
// c[group + 8][2 t + 1]. m16n8k16: the same, with two k for each of them.
#if FACTOR_BITS == 16

__device__ inline unsigned packed(float first, float second)
{
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}

struct Factors {
    unsigned first, second;
    __device__ explicit Factors(const float (&k)[4]) : first(packed(k[0], k[1])), second(packed(k[2], k[3])) {}
    Factors() = default;

    static constexpr int ARRAYS = 1;
    __device__ Factors(const unsigned* from, int apart)
    {
        uint2 pair = *(const uint2*)from;
        first = pair.x, second = pair.y;
    }
    __device__ void store(unsigned* to, int apart) const { *(uint2*)to = make_uint2(first, second); }
};

template <int N, class At>
__device__ __forceinline__ void multiply_add(const Factors (&a)[4], const Factors (&b)[N], At at)
{
#pragma unroll
    for (int i = 0; i < 4; i += 2)
#pragma unroll
        for (int j = 0; j < N; ++j)
            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(at(i, j, 0)), "+f"(at(i, j, 1)), "+f"(at(i + 1, j, 0)), "+f"(at(i + 1, j, 1))
                : "r"(a[i].first), "r"(a[i + 1].first), "r"(a[i].second), "r"(a[i + 1].second), "r"(b[j].first),
                  "r"(b[j].second));
}

// A factor, read as the tensor core reads it.
__device__ inline float as_read(float x) { return __uint_as_float(packed(0.f, x) & 0xffff0000u); }

#else

__device__ inline void load_quad(unsigned (&values)[4], const unsigned* from)
{
    uint4 quad = *(const uint4*)from;
    values[0] = quad.x, values[1] = quad.y, values[2] = quad.z, values[3] = quad.w;
}

__device__ inline void store_quad(unsigned* to, const unsigned (&values)[4])
{
    *(uint4*)to = make_uint4(values[0], values[1], values[2], values[3]);
}

#if FACTOR_BITS == 19

// Half of the last bit that the tensor core reads is added to x; `power` has the sign and exponent of x.
// These two instructions keep infinities and NaN. (As an integer, 0x1000 could be added in one, but would
// turn the NaN of a GPU, 0x7fffffff, into a zero.)
__device__ inline unsigned half_up(float x)
{
    float power = __uint_as_float(__float_as_uint(x) & 0xff800000u);
    return __float_as_uint(fmaf(power, 0x1p-11f, x));
}

struct Factors {
    unsigned big[4];
    __device__ explicit Factors(const float (&k)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; ++i) big[i] = half_up(k[i]);
    }
    Factors() = default;

    static constexpr int ARRAYS = 1;
    __device__ Factors(const unsigned* from, int apart) { load_quad(big, from); }
    __device__ void store(unsigned* to, int apart) const { store_quad(to, big); }
};

#else
static_assert(FACTOR_BITS == 32, "factors are float32, TF32 or bfloat16");

struct Factors {
    unsigned big[4], small[4];
    __device__ explicit Factors(const float (&k)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            big[i] = (__float_as_uint(k[i]) + 0x1000) & ~0x1fffu;
            small[i] = __float_as_uint(k[i] - __uint_as_float(big[i]));
        }
    }
    Factors() = default;

    static constexpr int ARRAYS = 2;
    __device__ Factors(const unsigned* from, int apart) { load_quad(big, from), load_quad(small, from + apart); }
    __device__ void store(unsigned* to, int apart) const { store_quad(to, big), store_quad(to + apart, small); }
};

#endif

template <unsigned (Factors::*A)[4], unsigned (Factors::*B)[4], int N, class At>
__device__ __forceinline__ void multiply_add(const Factors (&a)[4], const Factors (&b)[N], At at)
{
#pragma unroll
    for (int k = 0; k < 4; k += 2)
#pragma unroll
        for (int i = 0; i < 4; i += 2)
#pragma unroll
            for (int j = 0; j < N; ++j)
                asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                    "{%0, %1, %2, %3};"
                    : "+f"(at(i, j, 0)), "+f"(at(i, j, 1)), "+f"(at(i + 1, j, 0)), "+f"(at(i + 1, j, 1))
                    : "r"((a[i].*A)[k]), "r"((a[i + 1].*A)[k]), "r"((a[i].*A)[k + 1]), "r"((a[i + 1].*A)[k + 1]),
                      "r"((b[j].*B)[k]), "r"((b[j].*B)[k + 1]));
}

template <int N, class At>
__device__ __forceinline__ void multiply_add(const Factors (&a)[4], const Factors (&b)[N], At at)
{
#if FACTOR_BITS == 32  // small products first
    multiply_add<&Factors::small, &Factors::big>(a, b, at);
    multiply_add<&Factors::big, &Factors::small>(a, b, at);
#endif
    multiply_add<&Factors::big, &Factors::big>(a, b, at);
}

#if FACTOR_BITS == 19
__device__ inline float as_read(float x) { return __uint_as_float(half_up(x) & ~0x1fffu); }
#else
__device__ inline float as_read(float x) { return x; }
#endif

#endif

// The heart: at(i, j, 0) and at(i, j, 1) += row i of a · the two columns of matrix j of b that the thread has the
// sums of, over the TILE_K terms of a slab. A tensor core needs about as long for four instructions as a sum is
// on its way through it: all sums of four rows take their turns, so that no instruction waits for the one before.
template <int N, class At>
__device__ __forceinline__ void add_products(const Factors (&a)[4], const Factors (&b)[N], At at)
{
    if (FACTOR_BITS < 32) {
        multiply_add(a, b, at);
        return;
    }
    float of_slab[4][N][2] = {};
    multiply_add(a, b, [&](int i, int j, int column) -> float& { return of_slab[i][j][column]; });
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j)
#pragma unroll
            for (int column = 0; column < 2; ++column) at(i, j, column) += of_slab[i][j][column];
}

// The factors of a thread's four rows or columns of a slab.
template <class Fragment>
__device__ __forceinline__ void load_factors(Factors (&factors)[4], const Fragment& fragment, const float* slab,
                                             int further = 0)
{
    float values[4][4];
    fragment.load(values, slab, further);
#pragma unroll
    for (int j = 0; j < 4; ++j) factors[j] = Factors(values[j]);
}
