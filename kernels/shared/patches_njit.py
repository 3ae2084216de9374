"""A convolution as two tables of offsets: pixel i meets tap t of a filter at
image[pixels[i] + taps[t]].

Stride, padding, dilation and the number of axes are all in the tables, so that a kernel which walks
them needs no copy of the patches (im2col) and no case distinction. Images are flat and padded: row
h of the original starts at rows[h].
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np

from gpucnn.ops.window import positions

Pads = tuple[tuple[int, int], ...]
Extents = tuple[int, ...]

TILE = 8
"""The table of pixels is filled up with its last one, so that a tile of eight may reach beyond the
end."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Where the patches of one image lie; all offsets int64, in floats.

    rows     start of each row of the image in the padded one
    line     floats in a row of the image
    size     floats in the padded image
    padded   whether the padded image differs from the image
    pixels   offset of each patch, in the order in which they are computed
    count    number of patches
    taps     offset of each value within a patch
    targets  which pixel of the result each patch belongs to
    """

    rows: np.ndarray
    line: int
    size: int
    padded: bool
    pixels: np.ndarray
    count: int
    taps: np.ndarray
    targets: np.ndarray

    @property
    def runs(self) -> list[np.ndarray]:
        """The taps in runs of those that lie one behind the other."""
        return np.split(self.taps, np.flatnonzero(np.diff(self.taps) != 1) + 1)


@lru_cache(256)
def patches(
    size: Extents,
    channels: int,
    kernel_size: Extents,
    strides: Extents,
    padding: Pads,
    dilation: Extents,
    groups: int = 1,
) -> Patches:
    """The patches that a convolution's filters meet, in the order of its result; the taps are those
    of the first group of channels."""
    units = _units(size, padding, channels)
    extents = _positions(size, kernel_size, strides, padding, dilation)
    pixels = _sums([np.arange(p) * s * u for p, s, u in zip(extents, strides, units, strict=True)])
    taps = [np.arange(r) * d * u for r, d, u in zip(kernel_size, dilation, units, strict=True)]
    return _patches(size, channels, padding, units, pixels.ravel(), _sums([*taps, np.arange(channels // groups)]))


@lru_cache(256)
def together(patches: Patches, images: int, outputs: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and targets of so many images that lie one after another, and whose results have so
    many pixels each.

    Behind these come the rows of the tile that ends 1, 2, … of the images: those from the last
    multiple of `rows` on, and the last one again and again, so that it does not reach into an image
    that is not there or is another thread's.
    """
    numbers = np.arange(images)[:, None]
    pixels, targets = patches.pixels[: patches.count], patches.targets[: patches.count]
    ends = (numbers + 1) * patches.count
    tiles = np.minimum(ends // rows * rows + np.arange(rows), ends - 1)
    order = np.concatenate([np.arange(images * patches.count), tiles.ravel()])
    return (pixels + numbers * patches.size).ravel()[order], (targets + numbers * outputs).ravel()[order]


@lru_cache(256)
def pooled_patches(
    size: Extents, channels: int, kernel_size: Extents, strides: Extents, padding: Pads, dilation: Extents
) -> Patches:
    """The same for a convolution whose result is pooled 2×2: the four patches of a pooling window
    follow each other."""
    plain = patches(size, channels, kernel_size, strides, padding, dilation)
    p, q = _positions(size, kernel_size, strides, padding, dilation)
    even = plain.pixels[: plain.count].reshape(p, q)[: p // 2 * 2, : q // 2 * 2]
    windows = even.reshape(p // 2, 2, q // 2, 2).transpose(0, 2, 1, 3)
    return _patches(size, channels, padding, _units(size, padding, channels), windows.ravel(), plain.taps)


@lru_cache(256)
def transposed_patches(
    size: Extents,
    output: Extents,
    filters: int,
    kernel_size: Extents,
    strides: Extents,
    padding: Pads,
    dilation: Extents,
    groups: int = 1,
) -> list[tuple[Patches, tuple[np.ndarray, ...]]]:
    """What the gradient of an input of extents `size` meets in dy of extents `output`: patches, whose
    taps are those of the first group of filters, and the taps of the weight to use.

    Cells whose distance to the first is a multiple of the stride meet the same taps of the filter.
    So there is one entry for each remainder, and none of them meets the zeros between the windows
    of a strided convolution.
    """
    axes = [_remainders(*axis) for axis in zip(size, output, kernel_size, strides, padding, dilation, strict=True)]
    around = tuple(pads for pads, _ in axes)
    units = _units(output, around, filters)
    places = _units(size, ((0, 0),) * len(size), 1)
    tables = []
    for choice in itertools.product(*(remainders for _, remainders in axes)):
        cells, shifts, taps = zip(*choice, strict=True)
        first = [(np.arange(len(c)) + pads[0]) * u for c, pads, u in zip(cells, around, units, strict=True)]
        offsets = [s * u for s, u in zip(shifts, units, strict=True)]
        targets = _sums([c * u for c, u in zip(cells, places, strict=True)])
        table = _patches(
            output,
            filters,
            around,
            units,
            _sums(first).ravel(),
            _sums([*offsets, np.arange(filters // groups)]),
            targets.ravel(),
        )
        tables.append((table, taps))
    return tables


def _remainders(
    size: int, output: int, window: int, stride: int, pads: tuple[int, int], dilation: int
) -> tuple[tuple[int, int], list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Along one axis: the padding that dy needs; for each remainder its cells, the shifts into dy,
    and the taps."""
    remainders = []
    for remainder in range(min(stride, size)):
        taps = np.array([r for r in range(window) if (remainder + pads[0] - r * dilation) % stride == 0], np.int64)
        cells, shifts = np.arange(remainder, size, stride), (remainder + pads[0] - taps * dilation) // stride
        remainders.append((cells, shifts, taps))
    ends = [len(cells) - 1 + shifts for cells, shifts, _ in remainders]
    before = -min([0, *(int(shifts.min()) for _, shifts, _ in remainders if shifts.size)])
    behind = max([0, *(int(end.max()) - output + 1 for end in ends if end.size)])
    return (before, behind), remainders


def _patches(
    size: Extents,
    channels: int,
    padding: Pads,
    units: list[int],
    pixels: np.ndarray,
    taps: np.ndarray,
    targets: np.ndarray | None = None,
) -> Patches:
    starts = [(np.arange(n) + p[0]) * u for n, p, u in zip(size, padding, units, strict=True)]
    starts[-1] = starts[-1][:1]
    return Patches(
        rows=_sums(starts).ravel(),
        line=size[-1] * channels,
        size=(size[0] + sum(padding[0])) * units[0],
        padded=any(map(any, padding)),
        pixels=_filled(pixels),
        count=len(pixels),
        taps=taps.ravel(),
        targets=_filled(np.arange(len(pixels)) if targets is None else targets),
    )


def _units(size: Extents, padding: Pads, channels: int) -> list[int]:
    """Floats from one cell to the next along each axis of the padded image."""
    units = [channels]
    for extent, pads in zip(size[:0:-1], padding[:0:-1], strict=True):
        units.insert(0, units[0] * (extent + sum(pads)))
    return units


def _positions(size: Extents, kernel_size: Extents, strides: Extents, padding: Pads, dilation: Extents) -> Extents:
    return tuple(map(positions, size, kernel_size, strides, dilation, padding))


def _sums(axes: Sequence[np.ndarray] | Iterator[np.ndarray]) -> np.ndarray:
    """All sums of one element from each axis, as an array with those axes."""
    return reduce(np.add.outer, axes).astype(np.int64)


def _filled(table: np.ndarray) -> np.ndarray:
    return np.concatenate([table, np.repeat(table[-1:], TILE - 1)]).astype(np.int64)
