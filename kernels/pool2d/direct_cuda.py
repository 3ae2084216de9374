"""Direct pooling in CUDA C++: a thread takes four neighbouring channels of a result, 16 bytes per
load and store.

A cell of a window costs one comparison or addition and 4 bytes, so the memory sets the time: x is
read once (windows that overlap meet in the cache) and y written once. Over the direct kernel in
numba.cuda this adds wide loads and, for the gradient of windows that do not overlap, one thread per
window: dx, dy, x and y are each touched once, without a search for earlier winners.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad

THREADS = 256

maxpool2d_direct = cuda_function(__file__, "maxpool2d_direct", THREADS=THREADS)
maxpool2d_grad_direct = cuda_function(__file__, "maxpool2d_grad_direct", THREADS=THREADS)
maxpool2d_grad_tiles = cuda_function(__file__, "maxpool2d_grad_tiles", THREADS=THREADS)
avgpool2d_direct = cuda_function(__file__, "avgpool2d_direct", THREADS=THREADS)
avgpool2d_grad_direct = cuda_function(__file__, "avgpool2d_grad_direct", THREADS=THREADS)


@kernel(maxpool2d, "direct", "cuda")
def launch_max(y, x, *, pool, strides, padding):
    _over_results(maxpool2d_direct, (y, x), *_extents(x, y), *_window(pool, strides, padding))


@kernel(maxpool2d_grad, "direct", "cuda")
def launch_max_grad(dx, dy, x, y, *, pool, strides, padding):
    extents, window = _extents(x, y), _window(pool, strides, padding)
    if strides[0] < pool[0] or strides[1] < pool[1]:
        _over_results(maxpool2d_grad_direct, (dx, dy, x, y), *extents, *window)
        return
    N, H, W, C = x.shape
    rows, columns = ceil_div(H + padding[0][0], strides[0]), ceil_div(W + padding[1][0], strides[1])
    pack = _pack(C)
    packs = N * rows * columns * C // pack
    tiles = maxpool2d_grad_tiles.define(PACK=pack)
    tiles[blocks_1d(packs, THREADS), THREADS](dx, dy, x, y, packs, rows, columns, *extents, *window)


@kernel(avgpool2d, "direct", "cuda")
def launch_avg(y, x, *, pool, strides, padding):
    _over_results(avgpool2d_direct, (y, x), *_extents(x, y), *_window(pool, strides, padding))


@kernel(avgpool2d_grad, "direct", "cuda")
def launch_avg_grad(dx, dy, *, size, pool, strides, padding):
    _over_results(avgpool2d_grad_direct, (dx, dy), *_extents(dx, dy), *_window(pool, strides, padding))


def _over_results(function, arrays, *numbers):
    """A thread for every pack of the first array."""
    pack = _pack(arrays[0].shape[3])
    packs = arrays[0].size // pack
    function.define(PACK=pack)[blocks_1d(packs, THREADS), THREADS](*arrays, packs, *numbers)


def _pack(C):
    """Neighbouring channels that one thread takes."""
    return 4 if C % 4 == 0 else 1


def _extents(x, y):
    """H, W, C, P, Q."""
    return *x.shape[1:], *y.shape[1:3]


def _window(pool, strides, padding):
    """R, S, stride_p, stride_q, top, left."""
    return *pool, *strides, padding[0][0], padding[1][0]
