// PACK neighbouring channels of a pixel as one value. With PACK = 4 one load or store moves 16
// bytes, and a warp 512 at once; that needs a C that is a multiple of 4, so that every pixel starts
// at a multiple of 16 bytes. Otherwise PACK = 1.

struct __align__(4 * PACK) Pack {
    float lane[PACK];
};

__device__ inline Pack load(const float* p) { return *(const Pack*)p; }
__device__ inline void store(float* p, const Pack& value) { *(Pack*)p = value; }

__device__ inline Pack filled(float value)
{
    Pack pack;
    for (int j = 0; j < PACK; ++j) pack.lane[j] = value;
    return pack;
}
