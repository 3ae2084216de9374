"""Slices scaled to a norm within bounds: one block per slice adds up its squares, then scales it.

The slice is read twice and written once, 12 bytes and 3 FLOPs an element. Where neighbours in
memory belong to different slices, as in a dense weight, a block picks single elements out of long
rows: simple, and slow for that.
"""

import math

import numba
import numpy as np

from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.constraint import EPSILON, max_norm, min_max_norm, unit_norm

from ..shared.block_numba import add_up
from ..shared.weight_slices_launch import slices, supports

THREADS = 128

TINY = np.float32(EPSILON)


@numba_device
def place(i, inner, outer_stride, inner_stride):
    return i // inner * outer_stride + i % inner * inner_stride


@numba_function
def scale_slices(w, length, a, b, c, d, e, f, low, high, rate, rest):
    """`place` has a, b, c for the slices and d, e, f for the elements of one."""
    sums = cuda.shared.array(THREADS, numba.float32)
    start = place(cuda.blockIdx.x, a, b, c)
    t = cuda.threadIdx.x
    total = np.float32(0)
    for i in range(t, length, THREADS):
        value = w[start + place(i, d, e, f)]
        total += value * value
    sums[t] = total
    add_up(sums)
    cuda.syncthreads()  # the total is there
    norm = math.sqrt(sums[0])
    desired = min(max(norm, low), high)
    if rest > 0:
        desired = rate * desired + rest * norm
    factor = desired / (TINY + norm)
    for i in range(t, length, THREADS):
        w[start + place(i, d, e, f)] *= factor


def _launch(w, axes, low, high, rate=1.0):
    at = slices(w.shape, axes)
    bounds = float(low), float(high), float(rate), float(1 - rate)
    scale_slices[at.count, THREADS](w.reshape(-1), at.length, *at.slice, *at.element, *bounds)


@kernel(max_norm, "two_pass", "numba", supports=supports)
def launch_max_norm(w, *, max_value, axes):
    _launch(w, axes, 0, max_value)


@kernel(unit_norm, "two_pass", "numba", supports=supports)
def launch_unit_norm(w, *, axes):
    _launch(w, axes, 1, 1)


@kernel(min_max_norm, "two_pass", "numba", supports=supports)
def launch_min_max_norm(w, *, min_value, max_value, rate, axes):
    _launch(w, axes, min_value, max_value, rate)
