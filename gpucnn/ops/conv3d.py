"""Convolution over three axes, as a sum of 2-D convolutions, its two gradients, and the convolution with bias
and activation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arguments import Count
from ..dispatch.case import Array, Case, Spec, real
from ..dispatch.op import op
from . import epilogue
from .conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from .convolution import Axes, convolution, grad_input_of, grad_weight_of, output, setting
from .epilogue import RELU, ULPS, end
from .window import Ends, cells, positions

VolumePads = tuple[Ends, Ends, Ends]
Triple = tuple[Count, Count, Count]

AXES = Axes("conv3d", x=("N", "D", "H", "W", "C"), weight=("T", "R", "S", "C", "K"), y=("N", "O", "P", "Q", "K"))

SETTINGS = [
    setting("one_cell", x=(1, 1, 1, 1, 1), weight=(1, 1, 1, 1, 1)),
    setting("ragged", x=(2, 4, 5, 6, 2), weight=(2, 3, 3, 2, 5)),
    setting("asymmetric_same", x=(2, 3, 4, 5, 2), weight=(2, 4, 3, 2, 3), padding=((0, 1), (1, 2), (1, 1))),
    setting("strided", x=(2, 6, 7, 5, 2), weight=(3, 3, 2, 2, 3), strides=(2, 3, 1)),
    setting("dilated", x=(1, 7, 5, 6, 2), weight=(3, 2, 3, 2, 3), dilation=(3, 1, 2)),
    setting("grouped", x=(2, 3, 4, 4, 6), weight=(2, 2, 2, 3, 4), groups=2),
    setting(
        "multiples_of_4", x=(2, 3, 5, 4, 4), weight=(2, 3, 2, 4, 8), strides=(1, 2, 1), padding=((1, 0), (1, 1), (0, 1))
    ),
    setting("video", x=(8, 16, 32, 32, 3), weight=(3, 3, 3, 3, 16), padding=((1, 1),) * 3, bench=True),
]


@convolution(AXES, SETTINGS)
def conv3d(x: Array, weight: Array, *, strides: Triple, padding: VolumePads, dilation: Triple, groups: Count) -> Array:
    """Slide K filters through N volumes (cross-correlation: filters are not flipped).

    x         (N, D, H, W, C)
    weight    (T, R, S, C / groups, K); filter k sees the channels of group k // (K / groups)
    strides   (planes, rows, columns) from one window to the next
    padding   ((front, back), (top, bottom), (left, right)) zeros around each volume
    dilation  (planes, rows, columns) from one tap of a filter to the next
    groups    number of groups of channels, and of filters
    →         (N, O, P, Q, K)
    """
    n, x = x.shape[0], _padded_depth(x, padding)
    o = positions(x.shape[1], weight.shape[0], strides[0], dilation[0])
    window = {"strides": strides[1:], "padding": padding[1:], "dilation": dilation[1:], "groups": groups}
    y = sum(
        conv2d.reference(_as_images(x[:, cells(t, o, strides[0], dilation[0])]), weight[t], **window)
        for t in range(weight.shape[0])
    )
    return y.reshape(n, o, *y.shape[1:])


def _ended_outputs(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool, **window: Any
) -> Any:
    name = "conv3d_bias_activation"
    return epilogue.ended_outputs(name, output(AXES._replace(op=name), x, weight, **window), b, function, keep_input)


def _sums(x: Array, weight: Array, b: Array, window: dict[str, Any]) -> np.ndarray:
    return conv3d.reference(x, weight, **window) + b


_ENDS = (
    {**RELU, "keep_input": False},
    {**end(epilogue.LINEAR), "keep_input": False},
    {**end("tanh"), "keep_input": False},
    {**end("gelu"), "keep_input": True},
)


@op(
    outputs=_ended_outputs,
    cases=[
        Case(f"{s.name}_{ending['function']}", (real(*s.x), real(*s.weight), real(s.weight[-1])), ending | s.window)
        for s in SETTINGS
        if not s.bench
        for ending in _ENDS
    ],
    prefer=("implicit_gemm",),
    factors=(0, 1),
    flops=lambda x, weight, b, *, function, alpha, keep_input, **window: (
        2 * math.prod(conv3d.specs(x, weight, **window)[0].shape) * math.prod(weight.shape[:-1])
    ),
    terms=lambda x, weight, b, **_: math.prod(weight.shape[:-1]) + 1,
    sums=lambda x, weight, b, *, function, alpha, keep_input, **window: epilogue.passed_on(
        _sums(x, weight, b, window), function, alpha, keep_input
    ),
    ulps=ULPS,
)
def conv3d_bias_activation(
    x: Array,
    weight: Array,
    b: Array,
    *,
    function: str,
    alpha: float,
    keep_input: bool,
    strides: Triple,
    padding: VolumePads,
    dilation: Triple,
    groups: Count,
) -> Any:
    """y = f(z) with z = conv3d(x, weight) + b. Its gradients: `bias_activation_grad`, then those of `conv3d`. It has
    kernels for the CPU alone: on a GPU, the ops that it joins run one by one.

    x           (N, D, H, W, C)
    weight      (T, R, S, C / groups, K)
    b           (K,)
    function    name of f, with its parameter alpha
    keep_input  whether z is returned too, for a function whose slope follows from it
    →           y (N, O, P, Q, K), or y and z
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return epilogue.ended(_sums(x, weight, b, window), function, alpha, keep_input)


@grad_input_of(conv3d, AXES, SETTINGS)
def conv3d_grad_input(
    dy: Array, weight: Array, *, size: Triple, strides: Triple, padding: VolumePads, dilation: Triple, groups: Count
) -> Array:
    """The gradient of `conv3d` with respect to x.

    dy      (N, O, P, Q, K)
    weight  (T, R, S, C / groups, K)
    size    (D, H, W) of x
    →       (N, D, H, W, C)

    The other parameters are those of `conv3d`.
    """
    n, o = dy.shape[:2]
    front, back = padding[0]
    window = {"strides": strides[1:], "padding": padding[1:], "dilation": dilation[1:], "groups": groups}
    dx = np.zeros((n, front + size[0] + back, *size[1:], weight.shape[-2] * groups), dy.dtype)
    for t in range(weight.shape[0]):
        images = conv2d_grad_input.reference(_as_images(dy), weight[t], size=size[1:], **window)
        dx[:, cells(t, o, strides[0], dilation[0])] += images.reshape(n, o, *images.shape[1:])
    return np.ascontiguousarray(dx[:, front : front + size[0]])


@grad_weight_of(conv3d, AXES, SETTINGS)
def conv3d_grad_weight(
    dy: Array, x: Array, *, kernel_size: Triple, strides: Triple, padding: VolumePads, dilation: Triple, groups: Count
) -> Array:
    """The gradient of `conv3d` with respect to weight.

    dy           (N, O, P, Q, K)
    x            (N, D, H, W, C)
    kernel_size  (T, R, S) of weight
    →            (T, R, S, C / groups, K)

    The other parameters are those of `conv3d`.
    """
    o, x = dy.shape[1], _padded_depth(x, padding)
    window = {"strides": strides[1:], "padding": padding[1:], "dilation": dilation[1:], "groups": groups}
    return np.stack(
        [
            conv2d_grad_weight.reference(
                _as_images(dy),
                _as_images(x[:, cells(t, o, strides[0], dilation[0])]),
                kernel_size=kernel_size[1:],
                **window,
            )
            for t in range(kernel_size[0])
        ]
    )


def _padded_depth(x: np.ndarray, padding: tuple) -> np.ndarray:
    return np.pad(x, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))


def _as_images(volumes: np.ndarray) -> np.ndarray:
    """(N, D, H, W, C) → (N · D, H, W, C)."""
    return volumes.reshape(-1, *volumes.shape[2:])
