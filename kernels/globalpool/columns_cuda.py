"""Global pooling in CUDA C++: a block takes 32 channels of one image and divides the positions
among its threads.

x is read once, 4 bytes for one addition or comparison, so the memory sets the time: each row of
threads reads 128 neighbouring bytes, and many rows, with four reads under way in each thread, keep
the memory busy. Over one thread per channel in numba.cuda this adds the division of the positions,
without which an image of 32 channels would keep one warp busy, and wide loads. The gradient of the
maximum looks for the winner once more and writes dx in the same kernel.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.globalpool import globalavgpool, globalavgpool_grad, globalmaxpool, globalmaxpool_grad

THREADS = 256

CHANNELS = 32
"""Channels of a block, 128 bytes of each position."""

POSITIONS = 4
"""Positions that a thread visits before more threads are put to work."""

globalavgpool_columns = cuda_function(__file__, "globalavgpool_columns", THREADS=THREADS)
globalavgpool_grad_columns = cuda_function(__file__, "globalavgpool_grad_columns", THREADS=THREADS)
globalmaxpool_columns = cuda_function(__file__, "globalmaxpool_columns", THREADS=THREADS)
globalmaxpool_grad_columns = cuda_function(__file__, "globalmaxpool_grad_columns", THREADS=THREADS)


@kernel(globalavgpool, "columns", "cuda")
def launch_avg(y, x):
    _over_columns(globalavgpool_columns, (y, x), x.shape)


@kernel(globalavgpool_grad, "columns", "cuda")
def launch_avg_grad(dx, dy, *, count):
    C = dx.shape[2]
    pack = _pack(C)
    packs = dx.size // pack
    globalavgpool_grad_columns.define(PACK=pack)[blocks_1d(packs, THREADS), THREADS](dx, dy, packs, count, C)


@kernel(globalmaxpool, "columns", "cuda")
def launch_max(y, x):
    _over_columns(globalmaxpool_columns, (y, x), x.shape)


@kernel(globalmaxpool_grad, "columns", "cuda")
def launch_max_grad(dx, dy, x):
    _over_columns(globalmaxpool_grad_columns, (dx, dy, x), x.shape)


def _over_columns(function, arrays, shape):
    N, M, C = shape
    pack = _pack(C)
    columns = min(CHANNELS // pack, _power_of_two(C // pack))
    rows = min(THREADS // columns, max(_power_of_two(ceil_div(M, POSITIONS)), 32 // columns))
    groups = ceil_div(C // pack, columns)
    function.define(PACK=pack)[N * groups, (columns, rows)](*arrays, groups, M, C)


def _pack(C):
    """Neighbouring channels that one thread takes."""
    return 4 if C % 4 == 0 else 1


def _power_of_two(count):
    """The smallest power of two that is not less than `count`."""
    return 1 << (count - 1).bit_length()
