"""The gradient of a weight through a 2×2 max pool, where a filter has few taps, as in a first layer.

All windows are multiplied, by the values in the cells that each filter has won (`shared/unpooled_njit.py`). Of few
taps that is several times faster than to list the cells with a gradient, as `sparse_njit.py` does.

Work: 2 · dy.size · taps, and a permutation for each vector of products.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.launch import ceil_div
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_maxpool_grad_weight

from ..shared.implicit_gemm_njit import FLOAT32, SMALL
from ..shared.patches_njit import Patches, pooled_patches
from ..shared.simd_njit import clear, copy
from ..shared.slices_launch import apart
from ..shared.tile_njit import HAS_512_BITS, WIDTH
from ..shared.unpooled_njit import MOST_TAPS, MOST_VECTORS, add_unpooled, can_permute

_MOST_TAPS = 64 if HAS_512_BITS else 16
"""With more, lists are faster."""


class _Runs(NamedTuple):
    """The taps of a filter in runs of equally many that lie one behind the other.

    starts    where each begins within a patch
    places    at which place in the runs each tap lies
    together  for each run that is summed up at a time, so many zeros as it has taps
    step      from a cell of a window to the one on its right
    """

    starts: np.ndarray
    places: np.ndarray
    together: tuple[tuple[int, ...], ...]
    step: int

    @property
    def count(self) -> int:
        """Places for taps."""
        return len(self.starts) * len(self.together[0])


@lru_cache(256)
def _runs(patches: Patches) -> _Runs:
    lines = patches.runs
    longest = max(map(len, lines))
    length = ceil_div(longest, ceil_div(longest, MOST_TAPS))
    starts = [line[0] + first for line in lines for first in range(0, len(line), length)]
    together = min(len(starts), max(1, MOST_TAPS // length))
    starts += starts[:1] * (-len(starts) % together)
    each = ceil_div(longest, length) * length
    places = np.concatenate([i * each + np.arange(len(line)) for i, line in enumerate(lines)])
    step = int(patches.pixels[1] - patches.pixels[0])
    return _Runs(np.array(starts), places, ((0,) * length,) * together, step)


def _tables(x: tuple[int, ...], kernel_size, strides, padding, dilation) -> tuple[Patches, _Runs]:
    table = pooled_patches(tuple(x[1:3]), x[3], tuple(kernel_size), strides, padding, dilation)
    return table, _runs(table)


def _vectors(filters: int) -> int:
    """Vectors of filters at a time."""
    return MOST_VECTORS if filters > WIDTH else 1


def _width(filters: int) -> int:
    """Filters in whole tiles."""
    lanes = _vectors(filters) * WIDTH
    return ceil_div(filters, lanes) * lanes


def _supports(dy: Spec, index: Spec, x: Spec, *, kernel_size, **window: Any) -> bool:
    _, runs = _tables(x.shape, kernel_size, **window)
    return dy.dtype == FLOAT32 and can_permute(runs.step, len(runs.together[0]))


def _pays(dy: Spec, index: Spec, x: Spec, *, kernel_size, **_: object) -> bool:
    return kernel_size[0] * kernel_size[1] * x.shape[3] <= _MOST_TAPS


def _workspace(dy: Spec, index: Spec, x: Spec, *, kernel_size, **window: Any) -> tuple[Spec, ...]:
    table, runs = _tables(x.shape, kernel_size, **window)
    slices, width = len(threads.slices(x.shape[0])), _width(dy.shape[3])
    return (
        Spec((slices, apart((runs.count + 2) * width)), FLOAT32),
        Spec((slices, apart(table.size + 2 * WIDTH)), FLOAT32),
        Spec((MOST_VECTORS * WIDTH,), FLOAT32),
        Spec((MOST_VECTORS * WIDTH,), np.dtype(np.uint8)),
    )


@kernel(
    conv2d_maxpool_grad_weight,
    "few_taps",
    "njit",
    supports=_supports,
    pays=_pays,
    workspace=_workspace,
    compiled=True,
)
def launch(dweight, db, dy, index, x, sums, image, end, end_index, *, kernel_size, **window):
    """Each slice of the batch has its own sums; they are added in order."""
    table, runs = _tables(x.shape, kernel_size, **window)
    filters = dy.shape[3]
    shape = np.array([table.line, table.count // 4, filters, _width(filters)])
    _add(
        len(sums), sums, image, dy.reshape(-1), index.reshape(-1), x.reshape(-1), end, end_index, table.rows,
        table.pixels, runs.starts, runs.together, runs.step, (0,) * _vectors(filters), shape, threads.bounds(len(x)),
        parallel=2 * dy.size * runs.count > SMALL,
    )  # fmt: skip
    again(_add_slices, dweight.reshape(-1, len(db)), db, sums, runs.places, runs.count)


def _add_slices(dweight: np.ndarray, db: np.ndarray, sums: np.ndarray, places: np.ndarray, count: int) -> None:
    filters, width = len(db), _width(len(db))
    total = np.add.reduce(sums[:, : (count + 1) * width], axis=0).reshape(-1, width)
    dweight[...], db[...] = total[places, :filters], total[count, :filters]


@tasks
def _add(i, all_sums, images, dy, index, x, end, end_index, rows, pixels, starts, runs, step, vectors, shape, bounds):
    """The sums over a slice of the images: (taps, filters), those of the bias behind them, and what is not read."""
    line, windows, filters, width = shape[0], shape[1], shape[2], shape[3]
    sums, image, lanes, taps = all_sums[i], images[i], len(vectors) * WIDTH, len(runs[0])
    clear(sums, 0, len(sums))
    clear(image, 0, len(image))
    for n in range(bounds[i], bounds[i + 1]):
        for h in range(rows.shape[0]):
            copy(image, rows[h], x, (n * rows.shape[0] + h) * line, line)
        for k in range(0, filters, lanes):
            o, m = n * windows * filters + k, 0
            within = min(windows, max(0, (dy.shape[0] - o - lanes) // filters + 1))
            while m < windows:
                gradients, places, at, stop = dy, index, o, within
                if m >= within:  # its lanes reach beyond the end of dy
                    gradients, places, at, stop = end, end_index, 0, m + 1
                    clear(end, 0, lanes)
                    copy(end, 0, dy, o + m * filters, min(lanes, filters - k))
                    copy(end_index, 0, index, o + m * filters, min(lanes, filters - k))
                for r in range(0, starts.shape[0], len(runs)):
                    bias = (starts.shape[0] * taps + (r > 0)) * width + k
                    add_unpooled(
                        vectors, runs, step, sums, r * taps * width + k, width, sums, bias, image, starts, r, pixels,
                        m, stop, gradients, places, at, filters,
                    )  # fmt: skip
                m = stop
