"""Several layers in one op: a convolution or matrix product with bias, ReLU and pooling; gradients.

A fused op saves memory traffic: it writes no intermediate result, and keeps one byte for each
pooling window for the backward pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dispatch.case import Array, Case, Spec, integers, real
from ..dispatch.op import op
from ..errors import ShapeError
from .conv2d import AXES, SETTINGS, conv2d, conv2d_grad_input, conv2d_grad_weight
from .convolution import Setting, output, setting
from .matmul import matmul
from .window import ImagePads, Pair

DEAD = 4
"""The index of a pooling window whose ReLU gives 0: none of its cells has a gradient."""

_PREFER = ("tensor", "implicit_gemm", "direct")
_PLAIN = [
    *(s for s in SETTINGS if s.window["groups"] == 1),
    setting("three_filters", x=(3, 6, 7, 2), weight=(3, 3, 2, 3)),
    setting("a_line_of_filters", x=(2, 9, 8, 3), weight=(3, 2, 3, 32)),
    setting("beyond_a_line_of_filters", x=(1, 6, 7, 4), weight=(3, 3, 4, 33)),
    setting("one_filter_long", x=(2, 5, 6, 15), weight=(3, 3, 15, 1)),
    setting("three_filters_long", x=(2, 6, 5, 16), weight=(3, 3, 16, 3)),
    setting("ten_filters_long", x=(2, 7, 7, 9), weight=(4, 4, 9, 10)),
    setting("a_line_of_filters_long", x=(1, 5, 6, 20), weight=(3, 3, 20, 32)),
    setting("beyond_a_line_of_filters_long", x=(1, 5, 5, 17), weight=(3, 3, 17, 33)),
]
_POOLED = [s for s in _PLAIN if min(s.y[1:3]) > 1]


def _window(setting: Setting) -> dict[str, Any]:
    return {name: value for name, value in setting.window.items() if name != "groups"}


def _pooled(y: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(N, P, Q, K) → (N, P // 2, Q // 2, K)."""
    n, p, q, k = y
    return n, p // 2, q // 2, k


def _check_bias(name: str, filters: int, b: Spec) -> None:
    if b.shape != (filters,):
        raise ShapeError(f"{name}: weight has {filters} filters but b has shape {b.shape}")


def _conv_output(name: str, x: Spec, weight: Spec, **window: Any) -> Spec:
    return output(AXES._replace(op=name), x, weight, groups=1, **window)


def _conv_flops(y: Spec, weight: tuple[int, ...]) -> int:
    return 2 * math.prod(y.shape) * math.prod(weight[:3])


# -- convolution, bias, ReLU -------------------------------------------------------------------------------------------


def _conv_relu_outputs(x: Spec, weight: Spec, b: Spec, **window: Any) -> Spec:
    y = _conv_output("conv2d_bias_relu", x, weight, **window)
    _check_bias("conv2d_bias_relu", y.shape[-1], b)
    return y


@op(
    outputs=_conv_relu_outputs,
    cases=[Case(s.name, (real(*s.x), real(*s.weight), real(s.weight[-1])), _window(s), s.bench) for s in _PLAIN],
    prefer=_PREFER,
    flops=lambda x, weight, b, **window: _conv_flops(_conv_relu_outputs(x, weight, b, **window), weight.shape),
    terms=lambda x, weight, b, **_: math.prod(weight.shape[:3]) + 1,
)
def conv2d_bias_relu(x: Array, weight: Array, b: Array, *, strides: Pair, padding: ImagePads, dilation: Pair) -> Array:
    """max(conv2d(x, weight) + b, 0). Its gradients: `bias_relu_grad`, then those of `conv2d`.

    x       (N, H, W, C)
    weight  (R, S, C, K)
    b       (K,)
    →       (N, P, Q, K)
    """
    z = conv2d.reference(x, weight, strides=strides, padding=padding, dilation=dilation, groups=1) + b
    return _relu(z)


# -- convolution, bias, ReLU, 2×2 pooling ------------------------------------------------------------------------------


def _conv_pool_outputs(x: Spec, weight: Spec, b: Spec, **window: Any) -> tuple[Spec, Spec]:
    name = "conv2d_bias_relu_maxpool"
    z = _conv_output(name, x, weight, **window)
    _check_bias(name, z.shape[-1], b)
    y = _pooled(z.shape)
    if not min(y):
        raise ShapeError(f"{name}: the convolution gives (N, P, Q, K) = {z.shape}, too small for windows of 2 × 2")
    return Spec(y, z.dtype), Spec(y, np.dtype(np.uint8))


def _check_pooled(name: str, dy: Spec, index: Spec, z: Spec) -> None:
    if dy != Spec(_pooled(z.shape), z.dtype) or index != Spec(dy.shape, np.dtype(np.uint8)):
        raise ShapeError(
            f"{name}: dy is {dy.shape} {dy.dtype} and index {index.shape} {index.dtype}, but conv2d_bias_relu_maxpool "
            f"returns {_pooled(z.shape)} {z.dtype} and uint8"
        )


def _pool_grad_weight_outputs(dy: Spec, index: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> tuple[Spec, Spec]:
    name = "conv2d_bias_relu_maxpool_grad_weight"
    weight = x.like(*kernel_size, x.shape[-1], dy.shape[-1])
    _check_pooled(name, dy, index, _conv_output(name, x, weight, **window))
    return weight, x.like(dy.shape[-1])


def _pool_grad_input_outputs(dy: Spec, index: Spec, weight: Spec, *, size: Any, **window: Any) -> Spec:
    name = "conv2d_bias_relu_maxpool_grad_input"
    x = dy.like(dy.shape[0], *size, weight.shape[2])
    _check_pooled(name, dy, index, _conv_output(name, x, weight, **window))
    return x


def _pool_operands(setting: Setting) -> tuple[Any, Any]:
    pooled = _pooled(setting.y)
    return real(*pooled), integers(*pooled, high=DEAD + 1, dtype="uint8")


@op(
    outputs=_conv_pool_outputs,
    cases=[Case(s.name, (real(*s.x), real(*s.weight), real(s.weight[-1])), _window(s), s.bench) for s in _POOLED],
    prefer=_PREFER,
    flops=lambda x, weight, b, **window: 4 * _conv_flops(_conv_pool_outputs(x, weight, b, **window)[0], weight.shape),
    terms=lambda x, weight, b, **_: math.prod(weight.shape[:3]) + 1,
)
def conv2d_bias_relu_maxpool(
    x: Array, weight: Array, b: Array, *, strides: Pair, padding: ImagePads, dilation: Pair
) -> tuple[Array, Array]:
    """The maximum of each 2×2 window of max(conv2d(x, weight) + b, 0), and the index of its cell.

    Windows do not overlap; an odd last row or column of the convolution belongs to none. NaN counts
    as the maximum.

    x       (N, H, W, C)
    weight  (R, S, C, K)
    b       (K,)
    →       y (N, P // 2, Q // 2, K), and index, uint8 of the same shape: the first cell, 0 … 3 in
            row-major order, that holds the maximum, or 4 where y is 0
    """
    z = conv2d.reference(x, weight, strides=strides, padding=padding, dilation=dilation, groups=1) + b
    n, p, q, k = _pooled(z.shape)
    windows = z[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, k).transpose(0, 1, 3, 5, 2, 4).reshape(n, p, q, k, 4)
    index = windows.argmax(axis=-1)
    largest = np.take_along_axis(windows, index[..., None], axis=-1)[..., 0]
    return _relu(largest), np.where(largest <= 0, DEAD, index).astype(np.uint8)


@op(
    gradient_of=conv2d_bias_relu_maxpool,
    outputs=_pool_grad_weight_outputs,
    cases=[
        Case(s.name, (*_pool_operands(s), real(*s.x)), {"kernel_size": s.weight[:2], **_window(s)}, s.bench)
        for s in _POOLED
    ],
    prefer=("sparse",),
    flops=lambda dy, index, x, kernel_size, **_: _conv_flops(dy, (*kernel_size, x.shape[-1])),
    terms=lambda dy, index, x, **_: math.prod(dy.shape[:3]) + 1,
)
def conv2d_bias_relu_maxpool_grad_weight(
    dy: Array, index: Array, x: Array, *, kernel_size: Pair, strides: Pair, padding: ImagePads, dilation: Pair
) -> tuple[Array, Array]:
    """The gradients of `conv2d_bias_relu_maxpool` with respect to weight and b.

    At most one cell in four has a gradient; where it is 0, x contributes nothing, even if it is not
    finite.

    dy           (N, P // 2, Q // 2, K)
    index        same shape as dy, uint8: returned by the forward pass
    x            (N, H, W, C)
    kernel_size  (R, S) of weight
    →            dweight (R, S, C, K), db (K,)
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation, "groups": 1}
    dz = _unpooled(dy, index, x.shape[1:3], kernel_size, window)
    return conv2d_grad_weight.reference(dz, x, kernel_size=kernel_size, **window), dz.sum(axis=(0, 1, 2))


@op(
    gradient_of=conv2d_bias_relu_maxpool,
    outputs=_pool_grad_input_outputs,
    cases=[
        Case(s.name, (*_pool_operands(s), real(*s.weight)), {"size": s.x[1:3], **_window(s)}, s.bench) for s in _POOLED
    ],
    prefer=("sparse",),
    flops=lambda dy, index, weight, **_: _conv_flops(dy, weight.shape),
    terms=lambda dy, index, weight, **_: math.prod(weight.shape[:2]) * weight.shape[3],
)
def conv2d_bias_relu_maxpool_grad_input(
    dy: Array, index: Array, weight: Array, *, size: Pair, strides: Pair, padding: ImagePads, dilation: Pair
) -> Array:
    """The gradient of `conv2d_bias_relu_maxpool` with respect to x.

    dy      (N, P // 2, Q // 2, K)
    index   same shape as dy, uint8: returned by the forward pass
    weight  (R, S, C, K)
    size    (H, W) of x
    →       (N, H, W, C)
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation, "groups": 1}
    dz = _unpooled(dy, index, size, weight.shape[:2], window)
    return conv2d_grad_input.reference(dz, weight, size=size, **window)


# -- product, bias, ReLU -----------------------------------------------------------------------------------------------


def _dense_outputs(x: Spec, weight: Spec, b: Spec) -> Spec:
    (y,) = matmul.specs(x, weight, transpose_a=False, transpose_b=False)
    _check_bias("dense_bias_relu", y.shape[1], b)
    return y


_DENSE = {
    "one": (1, 1, 1),
    "row": (1, 7, 5),
    "ragged": (13, 37, 11),
    "quads": (68, 20, 36),
    "quads_beyond_tiles": (132, 36, 76),
    "tiles": (64, 64, 64),
    "long": (3, 1000, 4),
    "one_unit": (9, 20, 1),
    "one_unit_long": (9, 200, 1),
    "three_units": (5, 20, 3),
    "three_units_long": (70, 130, 3),
    "ten_units": (12, 30, 10),
    "ten_units_long": (65, 150, 10),
    "a_line": (66, 40, 32),
    "a_line_long": (7, 260, 32),
    "beyond_a_line": (5, 24, 33),
    "beyond_a_line_long": (20, 190, 33),
}
_DENSE_BENCH = {
    "slides": (128, 320, 100),
    "mlearning": (128, 3136, 128),
    "keras_intro": (32, 1600, 64),
    "cifar": (512, 7200, 512),
}


@op(
    outputs=_dense_outputs,
    cases=[
        Case(name, (real(m, k), real(k, n), real(n)), bench=sizes is _DENSE_BENCH)
        for sizes in (_DENSE, _DENSE_BENCH)
        for name, (m, k, n) in sizes.items()
    ],
    prefer=("blas", "tensor", "warptiled", "direct"),
    flops=lambda x, weight, b: 2 * math.prod(x.shape) * weight.shape[1],
    terms=lambda x, weight, b: x.shape[1] + 1,
)
def dense_bias_relu(x: Array, weight: Array, b: Array) -> Array:
    """max(x @ weight + b, 0). Its gradients: `bias_relu_grad`, then two matrix products.

    x       (N, inputs)
    weight  (inputs, units)
    b       (units,)
    →       (N, units)
    """
    return _relu(x @ weight + b)


# -- the gradient of bias and ReLU -------------------------------------------------------------------------------------


def _bias_relu_grad_outputs(dy: Spec, y: Spec) -> tuple[Spec, Spec]:
    if dy != y or not dy.shape:
        raise ShapeError(f"bias_relu_grad: dy is {dy.shape} {dy.dtype} but y is {y.shape} {y.dtype}")
    return dy, dy.like(dy.shape[-1])


_ROWS = {
    "one": (1, 1),
    "dense": (7, 10),
    "ragged": (3, 7, 5, 9),
    "one_channel": (4, 6, 6, 1),
    "tiles": (2, 16, 16, 65),
    "many_rows": (1000, 33),
    "many_rows_of_one": (9, 8, 16, 1),
    "many_rows_of_three": (700, 3),
    "many_images": (3, 14, 15, 10),
    "many_rows_of_a_line": (600, 32),
}
_ROWS_BENCH = {"mlearning_1": (128, 28, 28, 32), "mlearning_3": (128, 14, 14, 64), "cifar_1": (512, 32, 32, 32)}


@op(
    gradient_of=conv2d_bias_relu,
    outputs=_bias_relu_grad_outputs,
    cases=[
        Case(name, (real(*shape), real(*shape)), bench=shapes is _ROWS_BENCH)
        for shapes in (_ROWS, _ROWS_BENCH)
        for name, shape in shapes.items()
    ],
    prefer=("rows",),
    flops=lambda dy, y: 2 * math.prod(dy.shape),
    terms=lambda dy, y: math.prod(dy.shape[:-1]),
)
def bias_relu_grad(dy: Array, y: Array) -> tuple[Array, Array]:
    """The gradients of y = max(z + b, 0) with respect to z and b.

    dy, y  (…, K)
    →      dz (…, K): dy where y is not 0, 0 elsewhere; db (K,): the sum of dz over all positions
    """
    dz = np.where(y <= 0, 0, dy)
    return dz, dz.reshape(-1, dz.shape[-1]).sum(axis=0)


# -- helpers of the bodies ---------------------------------------------------------------------------------------------


def _relu(z: np.ndarray) -> np.ndarray:
    """max(z, 0); NaN stays."""
    return np.where(z <= 0, 0, z)


def _unpooled(dy: np.ndarray, index: np.ndarray, size: Any, kernel_size: Any, window: dict[str, Any]) -> np.ndarray:
    """dy at the cells that index names, 0 elsewhere: (N, P, Q, K)."""
    n, p, q, k = dy.shape
    x, weight = Spec((n, *size, 1), dy.dtype), Spec((*kernel_size, 1, k), dy.dtype)
    dz = np.zeros(output(AXES, x, weight, **window).shape, dy.dtype)
    for cell in range(4):
        row, column = divmod(cell, 2)
        dz[:, row : 2 * p : 2, column : 2 * q : 2] = np.where(index == cell, dy, 0)
    return dz
