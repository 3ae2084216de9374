// Images through affine maps: one thread for an output pixel, all channels of it.
// Traffic: y once; x, of which four pixels are read for each output pixel, mostly from the caches.
// Coordinates are integers of 2^-16 pixels: every device reads the same pixels with the same
// weights.
//   FILL  0 constant, 1 nearest, 2 reflect, 3 wrap: what lies outside the image

// The pixel of a row or column of `side` pixels that shows place k, or -1.
__device__ __forceinline__ int folded(int k, int side)
{
    if (FILL == 0) return k >= 0 && k < side ? k : -1;
    if (FILL == 1) return min(max(k, 0), side - 1);
    int period = FILL == 2 ? 2 * side : side;
    int rest = k % period;
    if (rest < 0) rest += period;
    return FILL == 2 ? min(rest, period - 1 - rest) : rest;
}

__device__ __forceinline__ float fraction(int part) { return (float)part * (1.f / PIXEL); }

extern "C" __global__ void affine_bilinear(float* __restrict__ y, const float* __restrict__ x,
                                           const int* __restrict__ maps, unsigned pixels, int H, int W, int C, int P,
                                           int Q, float outside)
{
    unsigned pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    int q = pixel % Q, p = pixel / Q % P, n = pixel / Q / P;

    // Unsigned, because these sums may wrap around.
    const unsigned* map = (const unsigned*)maps + 6 * n;
    int row = (int)(map[0] * p + map[1] * q + map[2]);
    int column = (int)(map[3] * p + map[4] * q + map[5]);
    int top = folded(row >> 16, H), bottom = folded((row >> 16) + 1, H);
    int left = folded(column >> 16, W), right = folded((column >> 16) + 1, W);
    float lower = fraction(row & (PIXEL - 1)), upper = fraction(PIXEL - (row & (PIXEL - 1)));
    float further = fraction(column & (PIXEL - 1)), nearer = fraction(PIXEL - (column & (PIXEL - 1)));

    const float* image = x + (size_t)n * H * W * C;
    for (int c = 0; c < C; ++c) {
        float top_left = top < 0 || left < 0 ? outside : image[(top * W + left) * C + c];
        float top_right = top < 0 || right < 0 ? outside : image[(top * W + right) * C + c];
        float bottom_left = bottom < 0 || left < 0 ? outside : image[(bottom * W + left) * C + c];
        float bottom_right = bottom < 0 || right < 0 ? outside : image[(bottom * W + right) * C + c];
        float above = upper * nearer * top_left + upper * further * top_right;
        float below = lower * nearer * bottom_left + lower * further * bottom_right;
        y[(size_t)pixel * C + c] = above + below;
    }
}
