"""Random affine maps by Philox: one thread for an image, integers alone, so that every device computes
the same bits."""

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.affine import PIXEL, SINE
from gpucnn.ops.affine import random_affine as op

from ..shared.affine_launch import numbers
from ..shared.philox_numba import AUGMENT, key, philox, word

THREADS = 64

QUARTER = 1 << 30
SINE_0, SINE_1, SINE_2, SINE_3, SINE_4 = SINE


@numba_device
def between(random_word, low, width):
    return low + ((np.int64(random_word) >> 4) * width >> 28)


@numba_device
def sine(phase):
    """The sine of phase / 2³² turns in units of 2⁻³⁰: a polynomial in each quarter."""
    rest = phase & (QUARTER - 1)
    t = QUARTER - rest if phase >> 30 & 1 else rest
    square = t * t >> 30
    value = (SINE_4 * square >> 30) + SINE_3
    value = (value * square >> 30) + SINE_2
    value = (value * square >> 30) + SINE_1
    value = ((value * square >> 30) + SINE_0) * t >> 30
    return -value if phase >> 31 & 1 else value


@numba_device
def product(factor, scale):
    return (factor * scale + (1 << 29)) >> 30


@numba_device
def start(along, across, cut, shift, side, cut_side, P, Q):
    """Where coordinate 0 of the output lies along one axis of the input."""
    room = max(side - cut_side, 0)
    cut_off = ((np.int64(cut) >> 1) * (room + 1) >> 31) * PIXEL - (room * PIXEL >> 1)
    middle = (side - 1) * PIXEL >> 1
    return middle - (along * (P - 1) + across * (Q - 1) >> 1) + cut_off - shift * side


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
    sin, cos = sine(turn), sine(turn + QUARTER)
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
