"""Images through affine maps: one thread for an output value, four reads for each."""

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.affine import FILLS, PIXEL, affine

THREADS = 256

CONSTANT, NEAREST, REFLECT, WRAP = range(len(FILLS))
UNIT = np.float32(1 / PIXEL)


@numba_device
def folded(k, side, fill):
    """The pixel of a row or column that shows place k, or -1."""
    if fill == CONSTANT:
        return k if 0 <= k < side else -1
    if fill == NEAREST:
        return min(max(k, 0), side - 1)
    period = 2 * side if fill == REFLECT else side
    rest = k % period
    return min(rest, period - 1 - rest) if fill == REFLECT else rest


@numba_device
def coordinate(along, p, across, q, start):
    """A coordinate of 32 bits, which wraps around."""
    return np.int64(np.int32(along * p + across * q + start))


@numba_function
def affine_bilinear(y, x, maps, fill, outside):
    N, P, Q, C = y.shape
    H, W = x.shape[1], x.shape[2]
    i = cuda.grid(1)
    if i >= N * P * Q * C:
        return
    c, q, p, n = i % C, i // C % Q, i // (C * Q) % P, i // (C * Q * P)
    row = coordinate(np.int64(maps[n, 0]), p, np.int64(maps[n, 1]), q, np.int64(maps[n, 2]))
    column = coordinate(np.int64(maps[n, 3]), p, np.int64(maps[n, 4]), q, np.int64(maps[n, 5]))
    total = np.float32(0)
    for below in range(2):
        r = folded((row >> 16) + below, H, fill)
        part = row & (PIXEL - 1)
        weight = np.float32(part if below else PIXEL - part) * UNIT
        for right in range(2):
            s = folded((column >> 16) + right, W, fill)
            part = column & (PIXEL - 1)
            pixel = outside if r < 0 or s < 0 else x[n, r, s, c]
            total += weight * (np.float32(part if right else PIXEL - part) * UNIT) * pixel
    y[n, p, q, c] = total


@kernel(affine, "bilinear", "numba")
def launch(y, x, maps, *, size, fill, value):
    grid = blocks_1d(y.size, THREADS)
    affine_bilinear[grid, THREADS](y, x, maps, np.int32(FILLS.index(fill)), np.float32(value))
