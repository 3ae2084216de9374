"""Direct pooling: one thread per result, which visits the cells of its window. The whole idea and
nothing else.

Four bytes are read for each comparison or addition, from the cache where windows overlap, so x is
read once from memory and y written once. Gradients are gathered: a thread owns one cell of dx and
visits the windows that cover it. So no two threads add to the same place, no atomics are needed,
and the order of a sum is fixed. The search for the first cell that equals y visits up to R · S
cells once more, but only where a cell does equal y.
"""

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad

THREADS = 256


@numba_device
def place(i, rows, columns, C):
    """(n, row, column, c) of the i-th value; neighbouring threads have neighbouring channels, hence
    addresses."""
    return i // C // columns // rows, i // C // columns % rows, i // C % columns, i % C


@numba_device
def taps_inside(origin, taps, size):
    """First and last + 1 of the taps of a window that starts at `origin` (negative in the padding)
    inside the image."""
    return max(0, -origin), min(taps, size - origin)


@numba_device
def windows_over(cell, taps, stride, count):
    """First and last + 1 of the windows that cover a cell, the cell counted from the start of the
    padding."""
    return 0 if cell < taps else (cell - taps) // stride + 1, min(count, cell // stride + 1)


@numba_device
def is_first(x, y, n, h, w, c, top_edge, left_edge, S):
    """Whether no cell of the window that comes before (h, w) in row-major order equals y."""
    W = x.shape[2]
    for row in range(max(0, top_edge), h + 1):
        end = w if row == h else min(left_edge + S, W)
        for column in range(max(0, left_edge), end):
            if x[n, row, column, c] == y:
                return False
    return True


@numba_function
def maxpool2d_direct(y, x, R, S, stride_p, stride_q, top, left):
    i = cuda.grid(1)
    if i >= y.size:
        return
    n, p, q, c = place(i, y.shape[1], y.shape[2], y.shape[3])
    h, w = p * stride_p - top, q * stride_q - left
    r_begin, r_end = taps_inside(h, R, x.shape[1])
    s_begin, s_end = taps_inside(w, S, x.shape[2])
    best = np.float32(-np.inf)
    for r in range(r_begin, r_end):
        for s in range(s_begin, s_end):
            value = x[n, h + r, w + s, c]
            if value > best or value != value:  # a NaN stays: nothing is larger
                best = value
    y[n, p, q, c] = best


@numba_function
def maxpool2d_grad_direct(dx, dy, x, y, R, S, stride_p, stride_q, top, left):
    i = cuda.grid(1)
    if i >= x.size:
        return
    n, h, w, c = place(i, x.shape[1], x.shape[2], x.shape[3])
    p_begin, p_end = windows_over(h + top, R, stride_p, y.shape[1])
    q_begin, q_end = windows_over(w + left, S, stride_q, y.shape[2])
    total = np.float32(0)
    for p in range(p_begin, p_end):
        for q in range(q_begin, q_end):
            best = y[n, p, q, c]
            if x[n, h, w, c] == best and is_first(x, best, n, h, w, c, p * stride_p - top, q * stride_q - left, S):
                total += dy[n, p, q, c]
    dx[n, h, w, c] = total


@numba_function
def avgpool2d_direct(y, x, R, S, stride_p, stride_q, top, left):
    i = cuda.grid(1)
    if i >= y.size:
        return
    n, p, q, c = place(i, y.shape[1], y.shape[2], y.shape[3])
    h, w = p * stride_p - top, q * stride_q - left
    r_begin, r_end = taps_inside(h, R, x.shape[1])
    s_begin, s_end = taps_inside(w, S, x.shape[2])
    total = np.float32(0)
    for r in range(r_begin, r_end):
        row = np.float32(0)  # a sum for each row: rounding grows with √R + √S
        for s in range(s_begin, s_end):
            row += x[n, h + r, w + s, c]
        total += row
    y[n, p, q, c] = total / np.float32((r_end - r_begin) * (s_end - s_begin))


@numba_function
def avgpool2d_grad_direct(dx, dy, R, S, stride_p, stride_q, top, left):
    i = cuda.grid(1)
    if i >= dx.size:
        return
    n, h, w, c = place(i, dx.shape[1], dx.shape[2], dx.shape[3])
    p_begin, p_end = windows_over(h + top, R, stride_p, dy.shape[1])
    q_begin, q_end = windows_over(w + left, S, stride_q, dy.shape[2])
    total = np.float32(0)
    for p in range(p_begin, p_end):
        r_begin, r_end = taps_inside(p * stride_p - top, R, dx.shape[1])
        for q in range(q_begin, q_end):
            s_begin, s_end = taps_inside(q * stride_q - left, S, dx.shape[2])
            total += dy[n, p, q, c] / np.float32((r_end - r_begin) * (s_end - s_begin))
    dx[n, h, w, c] = total


@kernel(maxpool2d, "direct", "numba")
def launch_max(y, x, *, pool, strides, padding):
    maxpool2d_direct[blocks_1d(y.size, THREADS), THREADS](y, x, *_window(pool, strides, padding))


@kernel(maxpool2d_grad, "direct", "numba")
def launch_max_grad(dx, dy, x, y, *, pool, strides, padding):
    maxpool2d_grad_direct[blocks_1d(x.size, THREADS), THREADS](dx, dy, x, y, *_window(pool, strides, padding))


@kernel(avgpool2d, "direct", "numba")
def launch_avg(y, x, *, pool, strides, padding):
    avgpool2d_direct[blocks_1d(y.size, THREADS), THREADS](y, x, *_window(pool, strides, padding))


@kernel(avgpool2d_grad, "direct", "numba")
def launch_avg_grad(dx, dy, *, size, pool, strides, padding):
    avgpool2d_grad_direct[blocks_1d(dx.size, THREADS), THREADS](dx, dy, *_window(pool, strides, padding))


def _window(pool, strides, padding):
    """R, S, stride_p, stride_q, top, left."""
    return *pool, *strides, padding[0][0], padding[1][0]
