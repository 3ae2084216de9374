// The keyed shuffle of gpucnn.random.permutation, for one position alone: no array of indices, no
// sorting, no host. An alternating Feistel network on the smallest 2^b >= n, with Philox as its
// round function, walked until the value falls below n: Black and Rogaway, "Ciphers with arbitrary
// finite domains", CT-RSA 2002, sections 4 and 5. At most two walks on average (n > 1), 8 blocks of
// Philox each, in a chain of about 1000 instructions: compute it once for a row, not for a pixel.

// defines: SHUFFLE, philox
#include "philox.cuh"

const int FEISTEL_ROUNDS = 8;

// The sample at `position` < n in this epoch's order.
__device__ __forceinline__ unsigned shuffled(unsigned position, unsigned n, unsigned epoch, unsigned long long seed,
                                             unsigned stream)
{
    int width = max(2, 32 - __clz(n - 1));
    int narrow = width / 2, wide = width - narrow;
    unsigned value = position;
    do {
        unsigned high = value >> wide, low = value & ((1u << wide) - 1);
        for (int round = 0; round < FEISTEL_ROUNDS; ++round) {
            unsigned mask = (1u << (round % 2 ? wide : narrow)) - 1;
            unsigned word = philox(make_uint4(low, epoch, stream << 4 | round, SHUFFLE), seed).x;
            unsigned mixed = high ^ (word & mask);
            high = low;
            low = mixed;
        }
        value = high << wide | low;
    } while (value >= n);
    return value;
}
