// Moving average: moving = moving · momentum + batch · rest, rest = 1 - momentum, one thread per
// value. Grid: ⌈count / THREADS⌉ blocks. There is one value per channel: the launch takes longer
// than the work.
extern "C" __global__ void moving_average_elementwise(float* __restrict__ moving, const float* __restrict__ batch,
                                                      unsigned count, float momentum, float rest)
{
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    moving[i] = moving[i] * momentum + batch[i] * rest;
}
