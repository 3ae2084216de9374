"""Convolution over two axes and its two gradients."""

from __future__ import annotations

import numpy as np

from ..arguments import Count
from ..dispatch.case import Array
from .convolution import Axes, convolution, grad_input_of, grad_weight_of, setting
from .window import ImagePads, Pair, cells, positions

AXES = Axes("conv2d", x=("N", "H", "W", "C"), weight=("R", "S", "C", "K"), y=("N", "P", "Q", "K"))

_SAME3, _SAME5 = ((1, 1), (1, 1)), ((2, 2), (2, 2))

SETTINGS = [
    setting("one_pixel", x=(1, 1, 1, 1), weight=(1, 1, 1, 1)),
    setting("textbook", x=(1, 5, 5, 1), weight=(3, 3, 1, 1)),
    setting("pointwise", x=(2, 4, 3, 5), weight=(1, 1, 5, 7)),
    setting("single_channel", x=(3, 9, 8, 1), weight=(5, 5, 1, 10)),
    setting("ragged", x=(3, 7, 5, 2), weight=(3, 3, 2, 5)),
    setting("wide_filter", x=(2, 3, 11, 3), weight=(2, 7, 3, 4)),
    setting("whole_image", x=(2, 4, 4, 3), weight=(4, 4, 3, 6)),
    setting("same", x=(2, 6, 7, 3), weight=(3, 3, 3, 4), padding=_SAME3),
    setting("asymmetric_same", x=(2, 5, 6, 3), weight=(4, 2, 3, 4), padding=((1, 2), (0, 1))),
    setting("padding_beyond_image", x=(2, 2, 3, 2), weight=(5, 5, 2, 3), padding=_SAME5),
    setting("strided", x=(2, 8, 9, 3), weight=(3, 3, 3, 4), strides=(2, 3)),
    setting("strided_same", x=(2, 7, 8, 3), weight=(3, 3, 3, 4), strides=(2, 2), padding=((1, 1), (0, 1))),
    setting("stride_beyond_filter", x=(2, 9, 10, 2), weight=(2, 1, 2, 3), strides=(4, 3)),
    setting("dilated", x=(2, 9, 10, 3), weight=(3, 2, 3, 4), dilation=(2, 3)),
    setting("dilated_same", x=(2, 6, 7, 2), weight=(3, 3, 2, 3), padding=((2, 2), (2, 2)), dilation=(2, 2)),
    setting("grouped", x=(2, 5, 6, 6), weight=(3, 3, 3, 8), groups=2),
    setting("depthwise", x=(2, 6, 5, 5), weight=(3, 3, 1, 5), padding=_SAME3, groups=5),
    setting("depthwise_multiplier", x=(2, 6, 5, 3), weight=(3, 3, 1, 6), strides=(2, 2), groups=3),
    setting("many_images", x=(67, 6, 6, 2), weight=(3, 3, 2, 3)),
    setting("many_channels", x=(2, 5, 5, 33), weight=(3, 3, 33, 65)),
    setting("many_channels_same", x=(2, 5, 4, 33), weight=(3, 3, 33, 34), padding=_SAME3),
    setting("many_channels_asymmetric", x=(9, 2, 3, 17), weight=(3, 3, 17, 18), padding=((2, 1), (0, 2))),
    setting("multiples_of_4", x=(2, 6, 7, 8), weight=(3, 3, 8, 12), padding=_SAME3),
    setting(
        "multiples_of_4_strided", x=(2, 8, 9, 4), weight=(3, 2, 4, 8), strides=(2, 3), padding=_SAME3, dilation=(1, 2)
    ),
    setting("multiples_of_4_grouped", x=(2, 5, 6, 8), weight=(3, 3, 4, 16), groups=2),
    setting("quads_of_many_pixels", x=(2, 9, 8, 4), weight=(3, 3, 4, 36), padding=_SAME3),
    setting("quads_of_many_taps", x=(1, 5, 4, 16), weight=(3, 3, 16, 36), padding=_SAME3),
    setting("quads_of_many_channels", x=(3, 7, 8, 36), weight=(3, 2, 36, 8), strides=(2, 1), padding=((1, 1), (0, 1))),
    setting("quads_of_tall_filters", x=(2, 13, 3, 4), weight=(15, 1, 4, 8), padding=((2, 1), (0, 0))),
    setting("quads_across_images", x=(5, 4, 6, 20), weight=(3, 3, 20, 40), padding=_SAME3),
    setting("quads_far_apart", x=(3, 9, 14, 8), weight=(3, 3, 8, 36), padding=((2, 1), (0, 3)), dilation=(2, 3)),
    setting("one_row", x=(3, 1, 11, 2), weight=(1, 3, 2, 5)),
    setting("causal", x=(2, 1, 9, 3), weight=(1, 3, 3, 4), padding=((0, 0), (4, 0)), dilation=(1, 2)),
    setting("slides_1", x=(128, 28, 28, 1), weight=(5, 5, 1, 10), bench=True),
    setting("slides_2", x=(128, 12, 12, 10), weight=(5, 5, 10, 20), bench=True),
    setting("mlearning_1", x=(128, 28, 28, 1), weight=(5, 5, 1, 32), padding=_SAME5, bench=True),
    setting("mlearning_2", x=(128, 28, 28, 32), weight=(5, 5, 32, 32), padding=_SAME5, bench=True),
    setting("mlearning_3", x=(128, 14, 14, 32), weight=(3, 3, 32, 64), padding=_SAME3, bench=True),
    setting("mlearning_4", x=(128, 14, 14, 64), weight=(3, 3, 64, 64), padding=_SAME3, bench=True),
    setting("keras_intro_1", x=(32, 28, 28, 1), weight=(3, 3, 1, 32), bench=True),
    setting("keras_intro_2", x=(32, 13, 13, 32), weight=(3, 3, 32, 64), bench=True),
    setting("torres_1", x=(100, 28, 28, 1), weight=(5, 5, 1, 32), bench=True),
    setting("torres_2", x=(100, 12, 12, 32), weight=(5, 5, 32, 64), bench=True),
    setting("cifar_1", x=(512, 32, 32, 3), weight=(3, 3, 3, 32), padding=_SAME3, bench=True),
    setting("cifar_2", x=(512, 32, 32, 32), weight=(3, 3, 32, 32), bench=True),
]


@convolution(AXES, SETTINGS)
def conv2d(x: Array, weight: Array, *, strides: Pair, padding: ImagePads, dilation: Pair, groups: Count) -> Array:
    """Slide K filters over N images (cross-correlation: filters are not flipped).

    x         (N, H, W, C)
    weight    (R, S, C / groups, K); filter k sees the channels of group k // (K / groups)
    strides   (rows, columns) from one window to the next
    padding   ((top, bottom), (left, right)) zeros around each image
    dilation  (rows, columns) from one tap of a filter to the next
    groups    number of groups of channels, and of filters
    →         (N, P, Q, K)
    """
    x, weight = _by_group(_padded(x, padding), groups), _by_group(weight, groups)
    _, n, h, w, _ = x.shape
    _, taps_r, taps_s, _, k = weight.shape
    p = positions(h, taps_r, strides[0], dilation[0])
    q = positions(w, taps_s, strides[1], dilation[1])
    y = np.zeros((groups, n, p, q, k), x.dtype)
    for r, s in np.ndindex(taps_r, taps_s):
        rows, columns = cells(r, p, strides[0], dilation[0]), cells(s, q, strides[1], dilation[1])
        y += x[:, :, rows, columns] @ weight[:, None, None, r, s]
    return _ungrouped(y)


@grad_input_of(conv2d, AXES, SETTINGS)
def conv2d_grad_input(
    dy: Array, weight: Array, *, size: Pair, strides: Pair, padding: ImagePads, dilation: Pair, groups: Count
) -> Array:
    """The gradient of `conv2d` with respect to x: each window adds dy · weight to its cells.

    dy      (N, P, Q, K)
    weight  (R, S, C / groups, K)
    size    (H, W) of x
    →       (N, H, W, C)

    The other parameters are those of `conv2d`.
    """
    dy, weight = _by_group(dy, groups), _by_group(weight, groups)
    _, n, p, q, _ = dy.shape
    _, taps_r, taps_s, c, _ = weight.shape
    (top, bottom), (left, right) = padding
    dx = np.zeros((groups, n, top + size[0] + bottom, left + size[1] + right, c), dy.dtype)
    for r, s in np.ndindex(taps_r, taps_s):
        rows, columns = cells(r, p, strides[0], dilation[0]), cells(s, q, strides[1], dilation[1])
        dx[:, :, rows, columns] += dy @ weight[:, None, None, r, s].mT
    return _ungrouped(dx[:, :, top : top + size[0], left : left + size[1]])


@grad_weight_of(conv2d, AXES, SETTINGS)
def conv2d_grad_weight(
    dy: Array, x: Array, *, kernel_size: Pair, strides: Pair, padding: ImagePads, dilation: Pair, groups: Count
) -> Array:
    """The gradient of `conv2d` with respect to weight: for each tap, Σ dy · x over all windows.

    dy           (N, P, Q, K)
    x            (N, H, W, C)
    kernel_size  (R, S) of weight
    →            (R, S, C / groups, K)

    The other parameters are those of `conv2d`.
    """
    dy, x = _by_group(dy, groups), _by_group(_padded(x, padding), groups)
    _, _, p, q, k = dy.shape
    c = x.shape[-1]
    dweight = np.empty((groups, *kernel_size, c, k), dy.dtype)
    for r, s in np.ndindex(kernel_size):
        rows, columns = cells(r, p, strides[0], dilation[0]), cells(s, q, strides[1], dilation[1])
        dweight[:, r, s] = x[:, :, rows, columns].reshape(groups, -1, c).mT @ dy.reshape(groups, -1, k)
    return _ungrouped(dweight)


def _padded(x: np.ndarray, padding: tuple[tuple[int, int], ...]) -> np.ndarray:
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def _by_group(array: np.ndarray, groups: Count) -> np.ndarray:
    """(…, groups · c) → (groups, …, c)."""
    return np.moveaxis(array.reshape(*array.shape[:-1], groups, -1), -2, 0)


def _ungrouped(array: np.ndarray) -> np.ndarray:
    """(groups, …, c) → (…, groups · c)."""
    array = np.moveaxis(array, 0, -2)
    return np.ascontiguousarray(array).reshape(*array.shape[:-2], -1)
