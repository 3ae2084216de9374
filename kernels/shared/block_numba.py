"""The sum over a block of threads by a tree in shared memory, without warp intrinsics.

The block has one axis, and its threads are a power of two. In each step the lower half of them adds
what the upper half holds, so the order of adding depends on the size of the block alone.
"""

from gpucnn.devices.numba_cuda import cuda, numba_device


@numba_device
def add_up(sums):
    """Add `sums`, in shared memory with one value for each thread, up into sums[0].

    EVERY thread of the block must call this. Only thread 0 may read sums[0] without a barrier.
    """
    t = cuda.threadIdx.x
    half = cuda.blockDim.x >> 1
    while half > 0:
        cuda.syncthreads()  # all sums of the step before are there
        if t < half:
            sums[t] += sums[t + half]
        half >>= 1
