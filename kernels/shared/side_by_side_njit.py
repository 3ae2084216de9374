"""Convolutions with few filters, several results of a line at a time.

Six filters fill six lanes of a vector of sixteen. Two neighbouring results of a line are one result of
twelve filters, for a filter that is one cell longer and moves on by two cells: with zeros where a cell
meets only one of both. In memory the results already lie like that. A line of n results of filters of
S cells costs S + n - 1 products in place of n · S.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices.recorders import again, prepared

from .patches_njit import Patches, patches
from .tile_njit import WIDTH


class Wide(NamedTuple):
    """How a convolution becomes one with more filters.

    count    results of a line that become one
    shape    of the weight
    strides  of the convolution
    """

    count: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def wide(weight: tuple[int, ...], size: int, *, strides: Any, padding: Any, dilation: Any, groups: int = 1) -> Wide:
    """The way for a weight (…, S, C, K) and lines of `size` cells; `count` is 1 where it brings nothing."""
    *others, length, channels, filters = weight
    results = size + sum(padding[-1]) - length + 1
    count = 1
    if groups == 1 and length > 1 and strides[-1] == dilation[-1] == 1:
        count = max(n for n in range(1, max(1, WIDTH // filters) + 1) if results % n == 0)
    shape = *others, length + count - 1, channels, count * filters
    return Wide(count, shape, (*strides[:-1], count) if count > 1 else tuple(strides))


def way_of(x: Any, weight: Any, padding: Any, dilation: Any, strides: Any, groups: int) -> tuple[Wide, Patches]:
    """The way of a convolution, and the patches that its filters meet."""
    way = wide(weight.shape, x.shape[-2], strides=strides, padding=padding, dilation=dilation, groups=groups)
    return way, patches(x.shape[1:-1], x.shape[-1], way.shape[:-2], way.strides, padding, dilation, groups)


def widened(weight: np.ndarray, bias: np.ndarray | None, way: Wide) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight and bias of the convolution with more filters."""
    if way.count == 1:
        return weight, bias
    result, many = np.zeros(way.shape, np.float32), None
    with prepared(result, weight) as result:
        again(_fill, result, weight, way.count)
    if bias is not None:
        many = np.empty(way.count * bias.size, np.float32)
        with prepared(many, bias) as many:
            again(many.reshape(way.count, -1).__setitem__, ..., bias)
    return result, many


def _fill(result: np.ndarray, weight: np.ndarray, count: int) -> None:
    length, filters = weight.shape[-3], weight.shape[-1]
    for i in range(count):
        result[..., i : i + length, :, i * filters : (i + 1) * filters] = weight
