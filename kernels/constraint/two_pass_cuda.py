"""Slices scaled to a norm within bounds: one pass adds up squares, chunk by chunk, the other
scales.

Each pass reads w once, 12 bytes and 3 FLOPs an element with the write. Compared with the numba
rung, threads follow the order of memory whichever axes a slice spans, and a long slice is cut into
chunks, so that a weight with ten units, or one norm for all of it, still gives work to many blocks.
The price is a small array of partial sums and a second launch.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.constraint import max_norm, min_max_norm, unit_norm

from ..shared.weight_slices_launch import slices, supports

THREADS = 256
LANES_ACROSS = 8  # 32 slices side by side: 128 bytes of a row for each warp
LANES = 32  # a warp reads 128 bytes of one slice
LANES_OF_LONG = 256  # the whole block for one slice
LONG = 4096
PER_THREAD = 8  # elements of a chunk for each lane
MOST_CHUNKS = 128

sum_squares = cuda_function(__file__, "sum_squares", THREADS=THREADS)
scale = cuda_function(__file__, "scale_slices", THREADS=THREADS)


def _lanes(at):
    if at.across:
        return LANES_ACROSS
    return LANES if at.length < LONG else LANES_OF_LONG


def _partial(w, *, axes, **_):
    at = slices(w.shape, axes)
    return Spec((min(MOST_CHUNKS, ceil_div(at.length, PER_THREAD * _lanes(at))), at.count), w.dtype)


def _launch(w, partial, axes, low, high, rate=1.0):
    at = slices(w.shape, axes)
    lanes = _lanes(at)
    grid = ceil_div(at.count, THREADS // lanes), partial.shape[0]
    layout = at.count, at.length, *at.slice, *at.element, lanes, at.across
    sum_squares[grid, THREADS](partial, w, *layout)
    scale[grid, THREADS](w, partial, *layout, low, high, rate, 1 - rate)


@kernel(max_norm, "two_pass", "cuda", supports=supports, workspace=_partial)
def launch_max_norm(w, partial, *, max_value, axes):
    _launch(w, partial, axes, 0, max_value)


@kernel(unit_norm, "two_pass", "cuda", supports=supports, workspace=_partial)
def launch_unit_norm(w, partial, *, axes):
    _launch(w, partial, axes, 1, 1)


@kernel(min_max_norm, "two_pass", "cuda", supports=supports, workspace=_partial)
def launch_min_max_norm(w, partial, *, min_value, max_value, rate, axes):
    _launch(w, partial, axes, min_value, max_value, rate)
