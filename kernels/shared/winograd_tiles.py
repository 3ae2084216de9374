"""How images are cut into the tiles of `winograd_njit`, and where that is expected to pay."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices import threads
from gpucnn.dispatch.case import Spec

from .implicit_gemm_njit import FLOAT32
from .tile_njit import IS_ZEN, ROWS, WIDTH
from .winograd_matrices import Filtering
from .winograd_transforms_njit import Transform, address

_RESULTS = {2: (2,), 3: (2, 4), 4: (2, 4), 5: (2, 4), 6: (2, 4), 7: (2, 4)}
"""By the taps of an axis: how many results a tile may have."""

_LEAST = 16
"""Channels and filters from which on the errors of a whole tile are small against the sum behind
each of its values, even where most taps meet padding."""

_MOST_VALUES, _LEAST_TILES, _MOST_TILES = 1 << 17, 16, 64
"""In work at a time: so many transformed values stay in the second-level cache. With fewer tiles, the filters
are read more often than that saves."""
_FEWEST_TILES, _FEWEST_LARGE = 32, 128
"""With so many tiles in a batch it is faster, since the filters take up to five times the memory; and with so
many, tiles may be large: of one image there would be too few for the threads. So many are in work at a time,
too, if images are small enough."""
_BATCH = threads.SLICES
"""Images from which on both are taken to be so: then parts of a batch have the bits of the whole."""
_MOST_PRODUCTS, _MOST_SUMS = 1 << 14, 1 << 20
"""Channels times filters up to which tiles may be large, and these times places up to which the gradient of
filters is faster: beyond, they come from memory."""
_FEW_PLACES = 49
_OVERHEAD, _OVERHEAD_OF_FEW = (14, 20) if WIDTH == 16 and not IS_ZEN else (12, 12)
"""For each place of a tile, and of one of few places, transforms take the time of so many multiplications by each
channel and filter. Measured with 16 to 64 channels and filters on AMD EPYCs (znver4, znver5) and an Intel Xeon
(emeraldrapids)."""
_LEAST_GAIN = 1.15
"""The definition's products have to take so many times as long."""
_REGISTERS = 16
"""Vectors that are transformed at once and leave room for what they become."""


class Tiles(NamedTuple):
    """The tiles of some images that lie one after another.

    axes      how results are computed along rows and columns
    rows      start of each row of an image in the padded one, in floats
    size      floats in a padded image
    line      floats from one row of it to the next
    cells     where each tile starts in the padded images
    results   where the result of each tile starts, in pixels of the result; if that is pooled, where it is
    heights   rows of the result in each tile
    widths    columns, likewise
    in_row    tiles of a row of an image
    count     tiles of one image
    several   images
    enough    whether the batch has tiles enough
    block     tiles in work at a time
    """

    axes: tuple[Filtering, Filtering]
    rows: np.ndarray
    size: int
    line: int
    cells: np.ndarray
    results: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    in_row: int
    count: int
    several: int
    enough: bool
    block: int

    @property
    def places(self) -> int:
        """Multiplications of a tile, for a channel and a filter."""
        return math.prod(axis.places for axis in self.axes)

    @property
    def taps(self) -> int:
        """Those of a filter."""
        return math.prod(axis.taps for axis in self.axes)

    def flops(self, images: int, channels: int, filters: int) -> int:
        """Multiplications and additions for so many images."""
        return 2 * self.places * self.count * images * channels * filters

    def columns(self, parts: int, pixels: int, channels: int) -> Spec:
        """What holds, for each part of the work, the transformed columns of the tiles in work, so many of each;
        next to nothing, if whole tiles are transformed."""
        pitch = 1 if self.whole else pitch_of(self.block * pixels, channels)
        return Spec((parts, self.axes[0].places, pitch), FLOAT32)

    def row_of_places(self, parts: int, channels: int) -> Spec:
        """What holds a row of places of the tiles in work, or all places of whole tiles."""
        places = self.places if self.whole else self.axes[1].places
        return Spec((parts, places, pitch_of(self.block, channels)), FLOAT32)

    @property
    def whole(self) -> bool:
        """Whether a tile is transformed at once: its places fit the registers."""
        return _is_whole(*self.axes)

    def transforms(self, which: Transform) -> tuple[int, int]:
        """The addresses of the transforms of columns and of rows, or of whole tiles and none."""
        down, across = self.axes
        if self.whole:
            return address(which, down, across), 0
        return address(which, down=down), address(which, across=across)


def _is_whole(down: Filtering, across: Filtering) -> bool:
    return down.places * across.places <= _REGISTERS


def _block(down: Filtering, across: Filtering, channels: int, filters: int) -> int:
    if _is_whole(down, across):
        values = down.places * across.places * (channels + filters)
    else:
        values = down.places * (across.cells * channels + across.results * filters)
    return max(_LEAST_TILES, min(_MOST_TILES, _MOST_VALUES // values // ROWS * ROWS))


def _axis(results: int, taps: int, tiles: float) -> Filtering:
    """The filtering of an axis with the fewest multiplications for so many results, of those with so many
    tiles at least; if there is none, the one with the most tiles."""
    choices = [Filtering(each, taps) for each in _RESULTS[taps]]
    many = [one for one in choices if -(-results // one.results) >= tiles] or choices[:1]
    return min(many, key=lambda one: -(-results // one.results) * one.places)


@lru_cache(256)
def tiles_of(
    height: int,
    width: int,
    channels: int,
    taps: tuple[int, int],
    padding: Any,
    images: int,
    filters: int,
    pooled: bool = False,
) -> Tiles:
    """The tiles of images of this size in a batch, for so many filters. Pooled results are those of their
    windows of 2 × 2."""
    (top, bottom), (left, right) = padding
    P, Q = height + top + bottom - taps[0] + 1, width + left + right - taps[1] + 1
    if pooled:
        P, Q = P // 2 * 2, Q // 2 * 2
    least = math.sqrt(_FEWEST_LARGE / images) if images < _BATCH else 0.0
    if channels * filters > _MOST_PRODUCTS:
        least = math.inf
    axes = _axis(P, taps[0], least), _axis(Q, taps[1], least)
    (each_down, _), (each_across, _) = axes
    down, across = -(-P // each_down), -(-Q // each_across)
    line = max(each_across * across + taps[1] - 1, width + left + right) * channels
    size = max(each_down * down + taps[0] - 1, height + top + bottom) * line
    count = down * across
    several = max(1, min(-(-images // 2), _FEWEST_TILES // count))
    numbers = np.arange(several)[:, None, None]
    p, q = each_down * np.arange(down)[:, None], each_across * np.arange(across)
    shape, window = (several, down, across), 2 if pooled else 1
    return Tiles(
        axes=axes,
        rows=(np.arange(height) + top) * line + left * channels,
        size=size,
        line=line,
        cells=(numbers * size + p * line + q * channels).ravel(),
        results=(numbers * (P * Q // window**2) + p // window * (Q // window) + q // window).ravel(),
        heights=np.broadcast_to(np.minimum(P - p, each_down), shape).ravel(),
        widths=np.broadcast_to(np.minimum(Q - q, each_across), shape).ravel(),
        in_row=across,
        count=count,
        several=several,
        enough=images >= _BATCH or images * count >= _FEWEST_TILES,
        block=_block(*axes, channels, filters),
    )


def columns_of(channels: int) -> int:
    """Channels filled up to whole vectors."""
    return -(-channels // WIDTH) * WIDTH


def pitch_of(pixels: int, channels: int) -> int:
    """Floats from one place of the tiles to the next: not a power of two, which would lie in one set
    of the cache."""
    return pixels * columns_of(channels) + WIDTH


def supports(
    one: Spec, channels: Any, kernel_size: Any, *, strides: Any, padding: Any, dilation: Any, groups: int = 1
) -> bool:
    """Whether a convolution of an array has such filters, and channels and filters enough."""
    if one.dtype != FLOAT32 or (strides, dilation, groups) != ((1, 1), (1, 1), 1) or min(channels) < _LEAST:
        return False
    return all(taps in _RESULTS and max(pads) < taps for taps, pads in zip(kernel_size, padding, strict=True))


def tiles_by(x: Any, weight: Any, padding: Any, pooled: bool = False) -> Tiles:
    """Those of images x (N, H, W, C) by the filters of a weight (R, S, C, K)."""
    return tiles_of(*x.shape[1:], weight.shape[:2], padding, x.shape[0], weight.shape[3], pooled)


def pays(channels: int, filters: int, tiles: Tiles) -> bool:
    """Whether it is expected to be faster than the products of the definition: not with few channels or
    tiles, where the transforms weigh more, and not where tiles reach far beyond the image."""
    products, computed = channels * filters, len(tiles.heights)
    definition = tiles.taps * int((tiles.heights * tiles.widths).sum()) * products
    overhead = _OVERHEAD_OF_FEW if tiles.places <= _FEW_PLACES else _OVERHEAD
    here = tiles.places * computed * (products + overhead * (channels + filters))
    return tiles.enough and definition >= _LEAST_GAIN * here


def correlation_pays(channels: int, filters: int, tiles: Tiles) -> bool:
    """The same for the gradient of the filters."""
    return tiles.places * channels * filters <= _MOST_SUMS and pays(channels, filters, tiles)
