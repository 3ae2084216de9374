"""Random affine maps by Philox: one thread for an image, integers alone, so that every device computes
the same bits."""

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.affine import PIXEL
from gpucnn.ops.affine import random_affine as op

from ..shared import affine_arithmetic as plain
from ..shared.affine_launch import numbers
from ..shared.philox_numba import AUGMENT, key, philox, word

THREADS = 64

between, sine, product, start = map(numba_device, (plain.between, plain.sine, plain.product, plain.start))


@numba_function
def random_affine(
    maps, step, H, W, P, Q, angle, angle_width, down, down_width, right, right_width,
    tall, tall_width, wide, wide_width, one_zoom, flip_rows, flip_columns, seed, stream,
):  # fmt: skip
    n = cuda.grid(1)
    if n >= maps.shape[0]:
        return
    w0, w1, w2, w3 = philox(word(2 * n), word(step[0]), stream, AUGMENT, seed)
    w4, w5, w6, _ = philox(word(2 * n + 1), word(step[0]), stream, AUGMENT, seed)
    turn = between(w2, angle, angle_width)
    sin, cos = sine(turn), sine(turn + plain.QUARTER)
    rows = between(w5, tall, tall_width) + PIXEL
    columns = between(w5 if one_zoom else w6, wide, wide_width) + PIXEL
    if flip_rows and np.int64(w0) & 1:
        rows = -rows
    if flip_columns and np.int64(w1) & 1:
        columns = -columns
    a, b, d, e = product(cos, rows), product(sin, columns), product(-sin, rows), product(cos, columns)
    maps[n, 0] = a
    maps[n, 1] = b
    maps[n, 2] = start(a, b, w0, between(w3, down, down_width), H, P, P, Q)
    maps[n, 3] = d
    maps[n, 4] = e
    maps[n, 5] = start(d, e, w1, between(w4, right, right_width), W, Q, P, Q)


@kernel(op, "philox", "numba")
def launch(maps, step, *, count, seed, stream, **how):
    integers = map(np.int64, numbers(**how))
    random_affine[blocks_1d(count, THREADS), THREADS](maps, step, *integers, *key(seed, stream))
