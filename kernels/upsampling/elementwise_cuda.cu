// Enlarging by whole factors: one thread for each value of the result looks up where it comes from.
//
//     repeat:       y[n, d, h, w] = x[n, d / a, h / b, w / c]        gradient: the sum of a · b · c
//     enlarge:      y[n, p, q] = Σ share_p · share_q · x[n, h, w]    gradient: the same shares of dy
//
// Cell o of an axis enlarged by f lies at (2o + 1 - f) / 2f, a fraction that integers hold exactly:
// no rounding moves a cell. A gradient visits, for each cell, the cells of dy that can lie next to
// it, in one fixed order. Forward, 4 bytes are written for each value and the reads are of cells
// that neighbours read too. Grid: a thread for each value of the result.

extern "C" __global__ void repeat_elementwise(float* __restrict__ y, const float* __restrict__ x, unsigned size,
                                              unsigned D, unsigned H, unsigned W, unsigned C, unsigned a, unsigned b,
                                              unsigned c)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    unsigned channel = i % C, rest = i / C;
    unsigned w = rest % (W * c) / c;
    rest /= W * c;
    unsigned h = rest % (H * b) / b;
    rest /= H * b;
    unsigned d = rest % (D * a) / a, n = rest / (D * a);
    y[i] = x[(((n * D + d) * H + h) * W + w) * C + channel];
}

extern "C" __global__ void repeat_grad_elementwise(float* __restrict__ dx, const float* __restrict__ dy, unsigned size,
                                                   unsigned D, unsigned H, unsigned W, unsigned C, unsigned a,
                                                   unsigned b, unsigned c)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    unsigned channel = i % C, rest = i / C;
    unsigned w = rest % W;
    rest /= W;
    unsigned h = rest % H;
    rest /= H;  // n · D + d
    float total = 0.f;
    for (unsigned p = rest * a; p < (rest + 1) * a; ++p)
        for (unsigned q = h * b; q < (h + 1) * b; ++q)
            for (unsigned r = w * c; r < (w + 1) * c; ++r) total += dy[((p * (H * b) + q) * (W * c) + r) * C + channel];
    dx[i] = total;
}

// Where cell o of an axis of `extent` cells enlarged by `factor` lies: between two cells, at a share
// of the way from the first to the second.
struct Place {
    int low, high;
    float share;
    __device__ Place(int o, int factor, int extent)
    {
        int halves = 2 * o + 1 + factor;  // counted from one cell before the first, so that it is positive
        int cell = halves / (2 * factor) - 1;
        share = (float)(halves % (2 * factor)) / (float)(2 * factor);
        low = max(cell, 0);
        high = min(cell + 1, extent - 1);
    }
    // The weight of a cell in the value at this place.
    __device__ float of(int cell) const { return (low == cell ? 1.f - share : 0.f) + (high == cell ? share : 0.f); }
};

extern "C" __global__ void enlarge_elementwise(float* __restrict__ y, const float* __restrict__ x, unsigned size, int H,
                                               int W, int C, int a, int b)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    unsigned c = i % C, rest = i / C;
    Place column(rest % (W * b), b, W);
    rest /= W * b;
    Place row(rest % (H * a), a, H);
    const float* image = x + rest / (H * a) * H * W * C + c;
    float above = image[(row.low * W + column.low) * C] * (1.f - column.share) +
                  image[(row.low * W + column.high) * C] * column.share;
    float below = image[(row.high * W + column.low) * C] * (1.f - column.share) +
                  image[(row.high * W + column.high) * C] * column.share;
    y[i] = above * (1.f - row.share) + below * row.share;
}

extern "C" __global__ void enlarge_grad_elementwise(float* __restrict__ dx, const float* __restrict__ dy, unsigned size,
                                                    int H, int W, int C, int a, int b)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    int c = i % C;
    unsigned rest = i / C;
    int w = rest % W;
    rest /= W;
    int h = rest % H;
    const float* image = dy + rest / H * (H * a) * (W * b) * C + c;
    float total = 0.f;
    for (int p = max(0, (h - 1) * a); p < min(H * a, (h + 2) * a); ++p) {
        float share = Place(p, a, H).of(h);
        if (share == 0.f) continue;
        float sum = 0.f;
        for (int q = max(0, (w - 1) * b); q < min(W * b, (w + 2) * b); ++q)
            sum += Place(q, b, W).of(w) * image[(p * W * b + q) * C];
        total += share * sum;
    }
    dx[i] = total;
}
