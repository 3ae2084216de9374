"""Bias and activation in one pass over the values, and their gradient in one: a stretch of values
goes through all of it while it is in the first-level cache.

Traffic: z read once and y written once; for the gradient dy and what was kept read once, dz written
once. The bias is laid out again and again until it fills whole vectors, and so are the sums of its
gradient: then values need no thought of which row they are in.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks, whole
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.bias_activation import bias_activation, bias_activation_grad
from gpucnn.ops.epilogue import LINEAR

from ..shared.columns_njit import add_slices, add_to_period, period, repeat
from ..shared.epilogue_njit import call, end, slope
from ..shared.simd_njit import LANES, add, copy, load, load_some, store, store_some

_SMALL = 1 << 14
"""Below this many values a second thread costs more than it brings."""

_STRETCH = 2048
"""Values that go through a pass at a time."""

_FLOAT32 = np.dtype(np.float32)


def _supports(one: Spec, other: Spec, **_: object) -> bool:
    return one.dtype == _FLOAT32


def _bounds(rows: int, channels: int) -> np.ndarray:
    """The first value of each slice of the rows, and the end."""
    return threads.bounds(rows) * channels


_repeat = whole(repeat)


def _workspace(z: Spec, b: Spec, **_: object) -> Spec:
    return Spec((period(z.shape[-1]),), _FLOAT32)


@kernel(bias_activation, "rows", "njit", supports=_supports, workspace=_workspace, compiled=True)
def launch(y, *arrays, function, alpha, keep_input):
    """y = f(z + b); z + b comes second if it is kept."""
    sums, (z, b, period) = (arrays[0] if keep_input else y), arrays[keep_input:]
    _repeat(period, b)
    bounds = _bounds(z.size // len(b), len(b))
    _add_and_finish(
        len(bounds) - 1, y.reshape(-1), sums.reshape(-1), z.reshape(-1), period, end(function), np.float32(alpha),
        bounds, parallel=z.size > _SMALL,
    )  # fmt: skip


def _grad_workspace(dy: Spec, kept: Spec, **_: object) -> Spec:
    channels = dy.shape[-1]
    rows = int(np.prod(dy.shape)) // channels
    return Spec((len(threads.slices(rows)), period(channels)), _FLOAT32)


@kernel(bias_activation_grad, "rows", "njit", supports=_supports, workspace=_grad_workspace, compiled=True)
def launch_grad(dz, db, dy, kept, sums, *, function, alpha, scale=1.0):
    """The sums of each slice of the rows, added in order."""
    bounds = _bounds(dy.size // len(db), len(db))
    address = 0 if function == LINEAR else slope(function, alpha)
    _mask_and_add(
        len(bounds) - 1, dz.reshape(-1), dy.reshape(-1), kept.reshape(-1), sums, address, np.float32(alpha),
        np.float32(scale), bounds, parallel=dy.size > _SMALL,
    )  # fmt: skip
    again(add_slices, db, sums)


@tasks
def _add_and_finish(part, y, sums, z, period, function, alpha, bounds):
    first, last, place = bounds[part], bounds[part + 1], 0
    for begin in range(first, last, _STRETCH):
        end = min(last, begin + _STRETCH)
        whole = begin + (end - begin) // LANES * LANES
        for i in range(begin, whole, LANES):
            store(sums, i, add(load(z, i), load(period, place)))
            place += LANES
            place = 0 if place == period.shape[0] else place
        if whole < end:
            few = end - whole
            store_some(sums, whole, few, add(load_some(z, whole, few), load(period, place)))
        if function:
            call(function, y, begin, sums, begin, sums, begin, end - begin, alpha)


@tasks
def _mask_and_add(part, dz, dy, kept, all_sums, function, alpha, scale, bounds):
    first, last, sums, place = bounds[part], bounds[part + 1], all_sums[part], 0
    sums[:] = np.float32(0)
    for begin in range(first, last, _STRETCH):
        end = min(last, begin + _STRETCH)
        if function:
            call(function, dz, begin, dy, begin, kept, begin, end - begin, alpha)
        else:
            copy(dz, begin, dy, begin, end - begin)
        if scale != np.float32(1):
            for i in range(begin, end):
                dz[i] *= scale
        place = add_to_period(sums, place, dz, begin, end)
