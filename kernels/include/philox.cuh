// Philox4x32-10: four random words from a counter and a key, without a state that threads would
// have to share. Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11,
// section 3.2. The same bits as gpucnn/random.py: key = seed, counter = (element / 4, step, stream,
// purpose). Four words cost 20 wide products and about 40 other integer operations, less than the
// time in which their values come from memory.

enum Purpose : unsigned { DROPOUT, SHUFFLE, INITIALIZE, AUGMENT, USER };  // as in gpucnn/random.py

__device__ __forceinline__ uint4 philox(uint4 counter, unsigned long long seed)
{
    unsigned key_0 = (unsigned)seed, key_1 = (unsigned)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        unsigned long long product_0 = 0xD2511F53ull * counter.x;
        unsigned long long product_1 = 0xCD9E8D57ull * counter.z;
        counter = make_uint4((unsigned)(product_1 >> 32) ^ counter.y ^ key_0, (unsigned)product_1,
                             (unsigned)(product_0 >> 32) ^ counter.w ^ key_1, (unsigned)product_0);
        key_0 += 0x9E3779B9u;
        key_1 += 0xBB67AE85u;
    }
    return counter;
}

// A float of [0, 1) from the upper 24 bits of a word: the product is exact.
__device__ __forceinline__ float uniform(unsigned word) { return (float)(word >> 8) * (1.f / 16777216.f); }
