"""Convolution along one axis and its two gradients: a 2-D convolution of images with one row."""

from __future__ import annotations

from ..dispatch.op import Array, op
from .conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from .convolution import Convolution, forward, grad_input, grad_weight, setting
from .window import Pads

CONVOLUTION = Convolution("conv1d", ("N", "W", "C"), ("S", "C", "K"), ("N", "Q", "K"))

SETTINGS = [
    setting("one_step", 1, (1,), 1, (1,), 1),
    setting("ragged", 3, (11,), 2, (3,), 5),
    setting("asymmetric_same", 2, (6,), 3, (4,), 4, padding=((1, 2),)),
    setting("causal", 2, (9,), 3, (3,), 4, padding=((4, 0),), dilation=(2,)),
    setting("strided", 2, (10,), 3, (3,), 4, strides=(3,)),
    setting("grouped", 2, (8,), 6, (3,), 4, groups=2),
    setting("depthwise", 2, (8,), 5, (3,), 5, groups=5),
    setting("multiples_of_4", 2, (11,), 8, (3,), 12, padding=((1, 1),), groups=2),
    setting("speech", 32, (4000,), 16, (9,), 32, padding=((4, 4),), bench=True),
]


@op(**forward(CONVOLUTION, SETTINGS))
def conv1d(x: Array, weight: Array, *, strides: tuple[int], padding: Pads, dilation: tuple[int], groups: int) -> Array:
    """Slide K filters along N sequences (cross-correlation: filters are not flipped).

    x         (N, W, C)
    weight    (S, C / groups, K); filter k sees the channels of group k // (K / groups)
    strides   (steps,) from one window to the next
    padding   ((before, after),) zeros around each sequence
    dilation  (steps,) from one tap of a filter to the next
    →         (N, Q, K)
    """
    return conv2d.reference(x[:, None], weight[None], groups=groups, **_one_row(strides, padding, dilation))[:, 0]


@op(**grad_input(CONVOLUTION, SETTINGS))
def conv1d_grad_input(
    dy: Array, weight: Array, *, size: tuple[int], strides: tuple[int], padding: Pads, dilation: tuple[int], groups: int
) -> Array:
    """The gradient of `conv1d` with respect to x.

    dy      (N, Q, K)
    weight  (S, C / groups, K)
    size    (W,) of x
    →       (N, W, C)
    """
    window = _one_row(strides, padding, dilation)
    return conv2d_grad_input.reference(dy[:, None], weight[None], size=(1, *size), groups=groups, **window)[:, 0]


@op(**grad_weight(CONVOLUTION, SETTINGS))
def conv1d_grad_weight(
    dy: Array,
    x: Array,
    *,
    kernel_size: tuple[int],
    strides: tuple[int],
    padding: Pads,
    dilation: tuple[int],
    groups: int,
) -> Array:
    """The gradient of `conv1d` with respect to weight.

    dy           (N, Q, K)
    x            (N, W, C)
    kernel_size  (S,) of weight
    →            (S, C / groups, K)
    """
    window = _one_row(strides, padding, dilation)
    return conv2d_grad_weight.reference(
        dy[:, None], x[:, None], kernel_size=(1, *kernel_size), groups=groups, **window
    )[0]


def _one_row(strides: tuple, padding: tuple, dilation: tuple) -> dict[str, tuple]:
    return {"strides": (1, *strides), "padding": ((0, 0), *padding), "dilation": (1, *dilation)}
