"""The counters of a training step, kept on the device so that a captured step counts by itself: one
thread, one launch.

The host would have to write a number between two replays, which costs it as long as a small kernel
and may not be late.
"""

from gpucnn.devices.numba_cuda import np, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import advance


@numba_function
def count(counters, steps):
    """One thread."""
    counters[0] += 1
    if counters[0] >= steps:
        counters[0] = 0
        counters[1] += 1
    if counters.size == 3:
        counters[2] += 1


@kernel(advance, "counter", "numba")
def launch(counters, *, steps):
    count[1, 1](counters, np.int64(steps))
