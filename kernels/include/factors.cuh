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

// The four k of a row of a, or of a column of b, that a thread holds; and c += upper row · b, d += lower row
// · b by the 32 lanes of a warp. The instruction's k are only names: its t stands for four neighbouring k.
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
};

__device__ inline void multiply_add(float (&c)[8], float (&d)[8], const Factors& upper, const Factors& lower,
                                    const Factors (&b)[4])
{
#pragma unroll
    for (int j = 0; j < 4; ++j)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[j]), "+f"(c[4 + j]), "+f"(d[j]), "+f"(d[4 + j])
            : "r"(upper.first), "r"(lower.first), "r"(upper.second), "r"(lower.second), "r"(b[j].first),
              "r"(b[j].second));
}

// A factor, read as the tensor core reads it.
__device__ inline float as_read(float x) { return __uint_as_float(packed(0.f, x) & 0xffff0000u); }

#else

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
};

#endif

template <unsigned (Factors::*PART)[4]>
__device__ inline void multiply_add(float (&c)[8], float (&d)[8], const unsigned (&upper)[4],
                                    const unsigned (&lower)[4], const Factors (&b)[4])
{
#pragma unroll
    for (int k = 0; k < 4; k += 2)
#pragma unroll
        for (int j = 0; j < 4; ++j)
            asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(c[j]), "+f"(c[4 + j]), "+f"(d[j]), "+f"(d[4 + j])
                : "r"(upper[k]), "r"(lower[k]), "r"(upper[k + 1]), "r"(lower[k + 1]), "r"((b[j].*PART)[k]),
                  "r"((b[j].*PART)[k + 1]));
}

__device__ inline void multiply_add(float (&c)[8], float (&d)[8], const Factors& upper, const Factors& lower,
                                    const Factors (&b)[4])
{
#if FACTOR_BITS == 32  // small products first
    multiply_add<&Factors::big>(c, d, upper.small, lower.small, b);
    multiply_add<&Factors::small>(c, d, upper.big, lower.big, b);
#endif
    multiply_add<&Factors::big>(c, d, upper.big, lower.big, b);
}

#if FACTOR_BITS == 19
__device__ inline float as_read(float x) { return __uint_as_float(half_up(x) & ~0x1fffu); }
#else
__device__ inline float as_read(float x) { return x; }
#endif

#endif
