"""Global pooling: one thread per image and channel walks down its column of positions.

Neighbouring threads have neighbouring channels, so every step of a warp reads one line of memory: 4
bytes for one addition or comparison. x is read once; in the gradient of the maximum a second walk
writes dx. What this costs is idle hardware: N · C threads are few where images have many positions
and few channels.
"""

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.globalpool import globalavgpool, globalavgpool_grad, globalmaxpool, globalmaxpool_grad

from ..shared.sum_numba import add, rounded

THREADS = 128


@numba_device
def column_of_thread(y):
    """(n, c) of y (N, C); n may be N or more."""
    i = cuda.grid(1)
    return i // y.shape[1], i % y.shape[1]


@numba_device
def best_position(x, n, c):
    """The first position of the largest value; of the first NaN, if there is one."""
    best, largest = 0, x[n, 0, c]
    for m in range(1, x.shape[1]):
        value = x[n, m, c]
        if largest == largest and (value > largest or value != value):  # a NaN is not equal to itself
            best, largest = m, value
    return best


@numba_function
def globalavgpool_columns(y, x):
    n, c = column_of_thread(y)
    if n >= y.shape[0]:
        return
    total, lost = np.float32(0), np.float32(0)
    for m in range(x.shape[1]):
        total, lost = add(total, lost, x[n, m, c])
    y[n, c] = rounded(total, lost) / np.float32(x.shape[1])


@numba_function
def globalavgpool_grad_columns(dx, dy):
    n, c = column_of_thread(dy)
    if n >= dy.shape[0]:
        return
    part = dy[n, c] / np.float32(dx.shape[1])
    for m in range(dx.shape[1]):
        dx[n, m, c] = part


@numba_function
def globalmaxpool_columns(y, x):
    n, c = column_of_thread(y)
    if n >= y.shape[0]:
        return
    y[n, c] = x[n, best_position(x, n, c), c]


@numba_function
def globalmaxpool_grad_columns(dx, dy, x):
    n, c = column_of_thread(dy)
    if n >= dy.shape[0]:
        return
    best = best_position(x, n, c)
    for m in range(x.shape[1]):
        dx[n, m, c] = dy[n, c] if m == best else np.float32(0)


@kernel(globalavgpool, "columns", "numba")
def launch_avg(y, x):
    globalavgpool_columns[blocks_1d(y.size, THREADS), THREADS](y, x)


@kernel(globalavgpool_grad, "columns", "numba")
def launch_avg_grad(dx, dy, *, count):
    globalavgpool_grad_columns[blocks_1d(dy.size, THREADS), THREADS](dx, dy)


@kernel(globalmaxpool, "columns", "numba")
def launch_max(y, x):
    globalmaxpool_columns[blocks_1d(y.size, THREADS), THREADS](y, x)


@kernel(globalmaxpool_grad, "columns", "numba")
def launch_max_grad(dx, dy, x):
    globalmaxpool_grad_columns[blocks_1d(dy.size, THREADS), THREADS](dx, dy, x)
