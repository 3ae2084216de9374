"""Maximum and mean over windows of images, and their gradients.

Layers pool sequences as images of one row, and volumes first over rows and columns, then over
depth: pooling windows are separable, and of equal values the same cell wins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dispatch.case import Array, Case, Spec, among, distinct, integers, real
from ..dispatch.op import op
from ..errors import ShapeError
from .window import Extents, ImagePads, Pads, Pair, cells, positions, same_padding


def _window(pool: Pair, strides: Pair | None = None, padding: ImagePads = ((0, 0), (0, 0))) -> dict[str, Any]:
    return {"pool": pool, "strides": strides or pool, "padding": padding}


def _same(size: Pair, pool: Pair, strides: Pair) -> dict[str, Any]:
    rows, columns = map(same_padding, size, pool, strides)
    return _window(pool, strides, (rows, columns))


SETTINGS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "one_pixel": ((1, 1, 1, 1), _window((1, 1))),
    "halves": ((2, 4, 6, 3), _window((2, 2))),
    "odd_remainder": ((3, 7, 5, 2), _window((2, 2))),
    "whole_image": ((2, 3, 4, 5), _window((3, 4))),
    "row_of_sequence": ((3, 1, 11, 2), _window((1, 3), (1, 2))),
    "overlapping": ((2, 7, 8, 3), _window((3, 3), (2, 2))),
    "overlapping_by_one": ((2, 6, 5, 4), _window((2, 3), (1, 1))),
    "same": ((2, 5, 5, 3), _same((5, 5), (2, 2), (2, 2))),
    "same_overlapping": ((2, 6, 7, 3), _same((6, 7), (3, 3), (2, 2))),
    "same_stride_1": ((2, 4, 5, 2), _same((4, 5), (4, 2), (1, 1))),
    "stride_beyond_window": ((2, 9, 8, 3), _window((2, 1), (4, 3))),
    "many_channels": ((2, 4, 4, 67), _window((2, 2))),
}
_BENCH_SETTINGS = {
    "slides_1": ((128, 24, 24, 10), _window((2, 2))),
    "mlearning_1": ((128, 28, 28, 32), _window((2, 2))),
    "mlearning_2": ((128, 14, 14, 64), _window((2, 2))),
    "cifar_1": ((512, 30, 30, 32), _window((2, 2))),
    "resnet_stem": ((32, 112, 112, 64), _same((112, 112), (3, 3), (2, 2))),
}

_STRANGE = (-math.inf, -math.inf, -math.inf, -1.0, 1.0, math.inf, math.nan)


def _cases(operands: Callable[..., tuple], **more: Callable[..., Any]) -> list[Case]:
    """A case for each setting, with operands and parameters computed from the shapes of x and y."""
    cases = []
    for settings in (SETTINGS, _BENCH_SETTINGS):
        for name, (shape, window) in settings.items():
            y = output(name, Spec(shape, np.dtype("float32")), **window).shape
            params = window | {param: value(shape) for param, value in more.items()}
            cases.append(Case(name, operands(shape, y), params, bench=settings is _BENCH_SETTINGS))
    return cases


def output(name: str, x: Spec, pool: Pair, strides: Pair, padding: ImagePads) -> Spec:
    """Of pooling; raises `ShapeError`, with the name of the op, if the windows do not fit."""
    if len(x.shape) != 4:
        raise ShapeError(f"{name}: x needs 4 axes (N, H, W, C) and has shape {x.shape}")
    return windows_of(name, x, pool, strides, padding)


def windows_of(name: str, x: Spec, pool: Extents, strides: Extents, padding: Pads) -> Spec:
    """The same for images or volumes."""
    axes = "NDHWC" if len(x.shape) == 5 else "NHWC"
    shapes = f"x ({', '.join(axes)}) = {x.shape}, pool {tuple(pool)}"
    extents = []
    for axis, size, window, stride, around in zip(axes[1:-1], x.shape[1:-1], pool, strides, padding, strict=True):
        if max(around) >= window:
            raise ShapeError(
                f"{name}: with padding {around} a window of {window} cells may cover nothing else: {shapes}"
            )
        extents.append(positions(size, window, stride, padding=around))
        if not extents[-1]:
            raise ShapeError(
                f"{name}: a window of {window} cells does not fit into {axis} = {size}, padding {around}: {shapes}"
            )
    return x.like(x.shape[0], *extents, x.shape[-1])


def _check_dy(name: str, dy: Spec, y: Spec) -> None:
    if dy != y:
        raise ShapeError(f"{name}: dy (N, P, Q, C) = {dy.shape} {dy.dtype} but y is {y.shape} {y.dtype}")


def _work(y: Spec, pool: Pair) -> int:
    return math.prod(y.shape) * math.prod(pool)


def _max_outputs(x: Spec, *, pool: Pair, strides: Pair, padding: ImagePads) -> Spec:
    return output("maxpool2d", x, pool, strides, padding)


def _max_grad_outputs(dy: Spec, x: Spec, y: Spec, *, pool: Pair, strides: Pair, padding: ImagePads) -> Spec:
    expected = output("maxpool2d_grad", x, pool, strides, padding)
    _check_dy("maxpool2d_grad", dy, expected)
    if y != expected:
        raise ShapeError(f"maxpool2d_grad: y (N, P, Q, C) = {y.shape} but maxpool2d returns {expected.shape}")
    return x


def _avg_outputs(x: Spec, *, pool: Pair, strides: Pair, padding: ImagePads) -> Spec:
    return output("avgpool2d", x, pool, strides, padding)


def _avg_grad_outputs(dy: Spec, *, size: Pair, pool: Pair, strides: Pair, padding: ImagePads) -> Spec:
    if len(dy.shape) != 4:
        raise ShapeError(f"avgpool2d_grad: dy needs 4 axes (N, P, Q, C) and has shape {dy.shape}")
    x = dy.like(dy.shape[0], *size, dy.shape[3])
    _check_dy("avgpool2d_grad", dy, output("avgpool2d_grad", x, pool, strides, padding))
    return x


@op(
    outputs=_max_outputs,
    cases=[
        *_cases(lambda x, y: (distinct(*x),)),
        Case("nan_and_infinity", (among(2, 7, 9, 3, values=_STRANGE),), _window((2, 2))),
        Case("nan_in_multiples_of_4", (among(2, 7, 9, 4, values=_STRANGE),), _window((2, 3), (1, 2), ((1, 0), (1, 1)))),
    ],
    prefer=("direct",),
    flops=lambda x, pool, **window: _work(_max_outputs(x, pool=pool, **window), pool),
    ulps=0,
)
def maxpool2d(x: Array, *, pool: Pair, strides: Pair, padding: ImagePads) -> Array:
    """The largest value of each window. The padding never wins; a window that holds NaN gives NaN.

    x        (N, H, W, C)
    pool     (R, S) rows and columns of a window
    strides  (rows, columns) from one window to the next
    padding  ((top, bottom), (left, right)) cells around each image, fewer than those of a window
    →        (N, P, Q, C)
    """
    image = padded(x, padding, -np.inf)
    first, *others = taps(image, pool, strides)
    y = image[first].copy()
    for tap in others:
        np.maximum(y, image[tap], out=y)
    return y


@op(
    gradient_of=maxpool2d,
    outputs=_max_grad_outputs,
    cases=_cases(lambda x, y: (real(*y), integers(*x, low=-1, high=2, dtype="float32"), real(*y, low=1, high=1))),
    prefer=("direct",),
    flops=lambda dy, x, y, pool, **_: 2 * _work(dy, pool),
)
def maxpool2d_grad(dy: Array, x: Array, y: Array, *, pool: Pair, strides: Pair, padding: ImagePads) -> Array:
    """The gradient of `maxpool2d`: each window adds dy to its first cell that equals y.

    dy, y  (N, P, Q, C)
    x      (N, H, W, C)
    →      (N, H, W, C)

    The parameters are those of `maxpool2d`.
    """
    image = padded(x, padding, np.nan)
    dx = np.zeros_like(image)
    undecided = np.ones(y.shape, bool)
    for tap in taps(image, pool, strides):
        wins = undecided & (image[tap] == y)
        dx[tap] += dy * wins
        undecided ^= wins
    return cropped(dx, x.shape, padding)


@op(
    outputs=_avg_outputs,
    cases=_cases(lambda x, y: (real(*x),)),
    prefer=("direct",),
    flops=lambda x, pool, **window: _work(_avg_outputs(x, pool=pool, **window), pool),
)
def avgpool2d(x: Array, *, pool: Pair, strides: Pair, padding: ImagePads) -> Array:
    """The mean of each window over its cells inside the image: the padding is not counted.

    x  (N, H, W, C)
    →  (N, P, Q, C)

    The parameters are those of `maxpool2d`.
    """
    return mean(x, pool, strides, padding)


@op(
    gradient_of=avgpool2d,
    outputs=_avg_grad_outputs,
    cases=_cases(lambda x, y: (real(*y),), size=lambda x: x[1:3]),
    prefer=("direct",),
    flops=lambda dy, pool, **_: _work(dy, pool),
)
def avgpool2d_grad(dy: Array, *, size: Pair, pool: Pair, strides: Pair, padding: ImagePads) -> Array:
    """The gradient of `avgpool2d`: each window adds equal shares of dy to its cells in the image.

    dy    (N, P, Q, C)
    size  (H, W) of x
    →     (N, H, W, C)

    The other parameters are those of `avgpool2d`.
    """
    return mean_grad(dy, size, pool, strides, padding)


def mean(x: np.ndarray, pool: Extents, strides: Extents, padding: Pads) -> np.ndarray:
    """`avgpool2d` of images or volumes."""
    image = padded(x, padding, 0)
    y = sum(image[tap] for tap in taps(image, pool, strides))
    return y / _counts(x.shape[1:-1], pool, strides, padding, x.dtype)


def mean_grad(dy: np.ndarray, size: Extents, pool: Extents, strides: Extents, padding: Pads) -> np.ndarray:
    """`avgpool2d_grad` of images or volumes."""
    share = dy / _counts(size, pool, strides, padding, dy.dtype)
    dx = np.zeros((dy.shape[0], *(n + sum(p) for n, p in zip(size, padding, strict=True)), dy.shape[-1]), dy.dtype)
    for tap in taps(dx, pool, strides):
        dx[tap] += share
    return cropped(dx, (dy.shape[0], *size, dy.shape[-1]), padding)


def taps(x: np.ndarray, pool: Extents, strides: Extents) -> list[tuple[slice, ...]]:
    """For each cell of a window, row by row, the cells of the padded images or volumes that it covers."""
    counts = [positions(n, k, s) for n, k, s in zip(x.shape[1:-1], pool, strides, strict=True)]
    return [(slice(None), *map(cells, tap, counts, strides)) for tap in itertools.product(*map(range, pool))]


def _counts(size: Extents, pool: Extents, strides: Extents, padding: Pads, dtype: np.dtype) -> np.ndarray:
    """(…, 1): how many cells of each window lie inside the image."""
    ones = padded(np.ones((1, *size, 1), dtype), padding, 0)
    return np.sum([ones[0][tap[1:]] for tap in taps(ones, pool, strides)], axis=0)


def padded(x: np.ndarray, padding: Pads, value: float) -> np.ndarray:
    """The images or volumes with this value around them."""
    if not np.any(padding):
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def cropped(dx: np.ndarray, shape: tuple[int, ...], padding: Pads) -> np.ndarray:
    """What `padded` adds to images or volumes of this shape is left out."""
    inside = [slice(before, before + n) for n, (before, _) in zip(shape[1:-1], padding, strict=True)]
    return np.ascontiguousarray(dx[:, *inside])
