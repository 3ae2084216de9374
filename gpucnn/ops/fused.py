"""Several layers in one op: a convolution or matrix product with bias, activation and pooling; gradients.

A fused op saves memory traffic: it writes no intermediate result that the backward pass does not
need, and keeps one byte for each pooling window. The activation is a parameter, `function` with its
`alpha`: `epilogue.LINEAR` or one of `activation.FUNCTIONS`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dispatch.case import Array, Case, Draw, Spec, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError
from . import epilogue
from .activation import FUNCTIONS
from .bias_activation import bias_activation_grad
from .conv2d import AXES, SETTINGS, conv2d, conv2d_grad_input, conv2d_grad_weight
from .convolution import Setting, output, setting
from .epilogue import LINEAR, RELU, ULPS, end, ended, ended_outputs, passed_on, rises
from .matmul import matmul
from .window import ImagePads, Pair, at_cells, largest_cells, pooled

DEAD = 4
"""The index of a pooling window whose ReLU gives 0: none of its cells has a gradient."""

_PREFER_POOLED = ("winograd", "implicit_gemm", "pooled_direct", "halo", "pooled_tensor", "pooled_gemm", "direct")
_PREFER_UNPOOLED = ("sparse", "pooled_gemm", "direct")
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


def _conv_output(name: str, x: Spec, weight: Spec, **window: Any) -> Spec:
    return output(AXES._replace(op=name), x, weight, groups=1, **window)


def _conv_flops(y: Spec, weight: tuple[int, ...]) -> int:
    return 2 * math.prod(y.shape) * math.prod(weight[:3])


_ENDS = {
    "linear": end(LINEAR, keep_input=False),
    "tanh": end("tanh", keep_input=False),
    "leaky": end("leaky_relu", keep_input=False),
    "elu_flat": end("elu", 0.25, keep_input=False),
    "gelu": end("gelu", keep_input=False),
}
_KEEPING = {f"{name}_keeping_input": end(name, keep_input=True) for name in ("relu", "gelu", "silu")}


def _product_cases(name: str, operands: tuple[Draw, ...], params: dict[str, Any]) -> list[Case]:
    """A product with other ends than ReLU."""
    return [Case(f"{name}_{word}", operands, {**ending, **params}) for word, ending in {**_ENDS, **_KEEPING}.items()]


# -- convolution, bias, activation -------------------------------------------------------------------------------------


def _conv_outputs(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool, **window: Any
) -> Any:
    z = _conv_output("conv2d_bias_activation", x, weight, **window)
    return ended_outputs("conv2d_bias_activation", z, b, function, keep_input)


def _sums(x: Array, weight: Array, b: Array, window: dict[str, Any]) -> np.ndarray:
    return conv2d.reference(x, weight, **window, groups=1) + b


def _conv_operands(setting: Setting) -> tuple[Draw, Draw, Draw]:
    return real(*setting.x), real(*setting.weight), real(setting.weight[-1])


_ENDED_CASES = ("ragged", "a_line_of_filters", "three_filters_long", "quads_of_many_taps", "quads_of_many_channels")
_ENDED = [s for s in _PLAIN if s.name in _ENDED_CASES]


@op(
    outputs=_conv_outputs,
    cases=[
        *(Case(s.name, _conv_operands(s), {**RELU, "keep_input": False, **_window(s)}, s.bench) for s in _PLAIN),
        *(case for s in _ENDED for case in _product_cases(s.name, _conv_operands(s), _window(s))),
    ],
    prefer=("few_channels", "halo", "tensor", "winograd", "implicit_gemm", "direct"),
    factors=(0, 1),
    flops=lambda x, weight, b, *, function, alpha, keep_input, **window: _conv_flops(
        _conv_output("conv2d_bias_activation", x, weight, **window), weight.shape
    ),
    terms=lambda x, weight, b, **_: math.prod(weight.shape[:3]) + 1,
    sums=lambda x, weight, b, *, function, alpha, keep_input, **window: passed_on(
        _sums(x, weight, b, window), function, alpha, keep_input
    ),
    ulps=ULPS,
)
def conv2d_bias_activation(
    x: Array,
    weight: Array,
    b: Array,
    *,
    function: str,
    alpha: float,
    keep_input: bool,
    strides: Pair,
    padding: ImagePads,
    dilation: Pair,
) -> Any:
    """y = f(z) with z = conv2d(x, weight) + b. Its gradients: `bias_activation_grad`, then those of
    `conv2d`; or those of weight and b alone, `conv2d_bias_activation_grad_weight`.

    x           (N, H, W, C)
    weight      (R, S, C, K)
    b           (K,)
    function    name of f, with its parameter alpha
    keep_input  whether z is returned too, for a function whose slope follows from it
    →           y (N, P, Q, K), or y and z
    """
    z = _sums(x, weight, b, {"strides": strides, "padding": padding, "dilation": dilation})
    return ended(z, function, alpha, keep_input)


def _grad_weight_outputs(
    dy: Spec, y: Spec, x: Spec, *, function: str, alpha: float, kernel_size: Pair, **window: Any
) -> tuple[Spec, ...]:
    epilogue.check_of_result("conv2d_bias_activation_grad_weight", function, alpha)
    bias_activation_grad.specs(dy, y, function=function, alpha=alpha)
    return (*conv2d_grad_weight.specs(dy, x, kernel_size=kernel_size, groups=1, **window), dy.like(dy.shape[-1]))


def _grad_weight_of(dz: np.ndarray, x: np.ndarray, kernel_size: Pair, window: dict[str, Any]) -> Any:
    return conv2d_grad_weight.body(dz, x, kernel_size=kernel_size, groups=1, **window), dz.sum(axis=(0, 1, 2))


def _grad_weight_case(s: Setting, function: str = "relu", name: str = "") -> Case:
    operands = real(*s.y), real(*s.y, low=-0.99, high=0.99), real(*s.x)
    return Case(s.name + name, operands, {**end(function), "kernel_size": s.weight[:2], **_window(s)}, s.bench)


@op(
    gradient_of=conv2d_bias_activation,
    outputs=_grad_weight_outputs,
    cases=[
        *map(_grad_weight_case, _PLAIN),
        *(_grad_weight_case(_ENDED[0], f, f"_{f}") for f in (LINEAR, *FUNCTIONS) if f != "relu" and rises(**end(f))),
    ],
    prefer=("few_channels", "direct"),
    flops=lambda dy, y, x, *, kernel_size, **_: _conv_flops(dy, (*kernel_size, x.shape[-1])),
    terms=lambda dy, y, x, **_: math.prod(dy.shape[:3]),
    sums=lambda dy, y, x, *, function, alpha, kernel_size, **window: _grad_weight_of(
        dy * (epilogue.steepest(function, alpha, 1.0) + ULPS / 4), x, kernel_size, window
    ),
    ulps=ULPS,
)
def conv2d_bias_activation_grad_weight(
    dy: Array,
    y: Array,
    x: Array,
    *,
    function: str,
    alpha: float,
    kernel_size: Pair,
    strides: Pair,
    padding: ImagePads,
    dilation: Pair,
) -> tuple[Array, Array]:
    """The gradients of `conv2d_bias_activation` with respect to weight and b, for a layer that needs none
    with respect to x: dz = dy times the slope of f is not a result.

    dy           (N, P, Q, K)
    y            same shape as dy: the result of the forward pass, from which the slope of f must follow
    x            (N, H, W, C)
    function     name of f, with its parameter alpha
    kernel_size  (R, S) of weight
    →            dweight (R, S, C, K), db (K,)
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation}
    return _grad_weight_of(epilogue.gradient(dy, y, function, alpha), x, kernel_size, window)


# -- convolution, bias, activation, 2×2 pooling ------------------------------------------------------------------------


def _conv_pool_outputs(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, **window: Any
) -> tuple[Spec, Spec]:
    name = "conv2d_bias_activation_maxpool"
    z = _conv_output(name, x, weight, **window)
    ended_outputs(name, z, b, function, False)
    if not rises(function, alpha):
        raise ArgumentError(f"{name}: {function} with alpha={alpha} falls somewhere: pool its results instead")
    y = pooled(z.shape)
    if not min(y):
        raise ShapeError(f"{name}: the convolution gives (N, P, Q, K) = {z.shape}, too small for windows of 2 × 2")
    return Spec(y, z.dtype), Spec(y, np.dtype(np.uint8))


def _check_pooled(name: str, dy: Spec, index: Spec, z: Spec) -> None:
    if dy != Spec(pooled(z.shape), z.dtype) or index != Spec(dy.shape, np.dtype(np.uint8)):
        raise ShapeError(
            f"{name}: dy is {dy.shape} {dy.dtype} and index {index.shape} {index.dtype}, but "
            f"conv2d_bias_activation_maxpool returns {pooled(z.shape)} {z.dtype} and uint8"
        )


def _pool_grad_weight_outputs(dy: Spec, index: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> tuple[Spec, Spec]:
    name = "conv2d_maxpool_grad_weight"
    weight = x.like(*kernel_size, x.shape[-1], dy.shape[-1])
    _check_pooled(name, dy, index, _conv_output(name, x, weight, **window))
    return weight, x.like(dy.shape[-1])


def _pool_grad_input_outputs(dy: Spec, index: Spec, weight: Spec, *, size: Any, **window: Any) -> Spec:
    name = "conv2d_maxpool_grad_input"
    x = dy.like(dy.shape[0], *size, weight.shape[2])
    _check_pooled(name, dy, index, _conv_output(name, x, weight, **window))
    return x


def _pool_grad_sums_outputs(dy: Spec, index: Spec, *, size: Pair) -> tuple[Spec, Spec]:
    if len(dy.shape) != 4:
        raise ShapeError(f"conv2d_maxpool_grad_sums: dy is (N, P // 2, Q // 2, K) and has shape {dy.shape}")
    _check_pooled("conv2d_maxpool_grad_sums", dy, index, z := dy.like(dy.shape[0], *size, dy.shape[3]))
    return z, dy.like(dy.shape[3])


def _pool_operands(setting: Setting) -> tuple[Any, Any]:
    shape = pooled(setting.y)
    return real(*shape), integers(*shape, high=DEAD + 1, dtype="uint8")


def _unpooled(dy: np.ndarray, index: np.ndarray, size: Any, kernel_size: Any, window: dict[str, Any]) -> np.ndarray:
    """dy at the cells that index names, 0 elsewhere: (N, P, Q, K)."""
    n, _, _, k = dy.shape
    x, weight = Spec((n, *size, 1), dy.dtype), Spec((*kernel_size, 1, k), dy.dtype)
    return at_cells(dy, index, output(AXES, x, weight, **window).shape)


def _pool_sums(x: Array, weight: Array, b: Array, *, function: str, alpha: float, **window: Any) -> Any:
    largest, index = largest_cells(_sums(x, weight, b, window))
    return passed_on(largest, function, alpha, False), index


@op(
    outputs=_conv_pool_outputs,
    cases=[
        *(Case(s.name, _conv_operands(s), {**RELU, **_window(s)}, s.bench) for s in _POOLED),
        *(
            Case(f"{s.name}_{function}", _conv_operands(s), {**end(function), **_window(s)})
            for s in _ENDED
            for function in (LINEAR, "tanh", "leaky_relu", "selu")
        ),
    ],
    prefer=_PREFER_POOLED,
    factors=(0, 1),
    flops=lambda x, weight, b, *, function, alpha, **window: (
        4 * _conv_flops(_conv_pool_outputs(x, weight, b, function=function, alpha=alpha, **window)[0], weight.shape)
    ),
    terms=lambda x, weight, b, **_: math.prod(weight.shape[:3]) + 1,
    sums=_pool_sums,
    ulps=ULPS,
)
def conv2d_bias_activation_maxpool(
    x: Array, weight: Array, b: Array, *, function: str, alpha: float, strides: Pair, padding: ImagePads, dilation: Pair
) -> tuple[Array, Array]:
    """f of the maximum of each 2×2 window of conv2d(x, weight) + b, and the index of its cell.

    As f never falls, this is the maximum of its results. Windows do not overlap; an odd last row or
    column of the convolution belongs to none. NaN counts as the maximum.

    x         (N, H, W, C)
    weight    (R, S, C, K)
    b         (K,)
    function  name of f, with its parameter alpha
    →         y (N, P // 2, Q // 2, K), and index, uint8 of the same shape: the first cell, 0 … 3 in
              row-major order, that holds the maximum, or 4 where f is relu and y is 0
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation}
    largest, index = largest_cells(_sums(x, weight, b, window))
    if function == "relu":
        index = np.where(largest <= 0, DEAD, index)
    return epilogue.finished(largest, function, alpha), index.astype(np.uint8)


@op(
    gradient_of=conv2d_bias_activation_maxpool,
    outputs=_pool_grad_weight_outputs,
    cases=[
        Case(s.name, (*_pool_operands(s), real(*s.x)), {"kernel_size": s.weight[:2], **_window(s)}, s.bench)
        for s in _POOLED
    ],
    prefer=_PREFER_UNPOOLED,
    factors=(0, 2),
    flops=lambda dy, index, x, kernel_size, **_: _conv_flops(dy, (*kernel_size, x.shape[-1])),
    terms=lambda dy, index, x, **_: math.prod(dy.shape[:3]) + 1,
)
def conv2d_maxpool_grad_weight(
    dy: Array, index: Array, x: Array, *, kernel_size: Pair, strides: Pair, padding: ImagePads, dilation: Pair
) -> tuple[Array, Array]:
    """The gradients of `conv2d_bias_activation_maxpool` with respect to weight and b.

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
    gradient_of=conv2d_bias_activation_maxpool,
    outputs=_pool_grad_input_outputs,
    cases=[
        Case(s.name, (*_pool_operands(s), real(*s.weight)), {"size": s.x[1:3], **_window(s)}, s.bench) for s in _POOLED
    ],
    prefer=_PREFER_UNPOOLED,
    factors=(0, 2),
    flops=lambda dy, index, weight, **_: _conv_flops(dy, weight.shape),
    terms=lambda dy, index, weight, **_: math.prod(weight.shape[:2]) * weight.shape[3],
)
def conv2d_maxpool_grad_input(
    dy: Array, index: Array, weight: Array, *, size: Pair, strides: Pair, padding: ImagePads, dilation: Pair
) -> Array:
    """The gradient of `conv2d_bias_activation_maxpool` with respect to x.

    dy      (N, P // 2, Q // 2, K)
    index   same shape as dy, uint8: returned by the forward pass
    weight  (R, S, C, K)
    size    (H, W) of x
    →       (N, H, W, C)
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation, "groups": 1}
    dz = _unpooled(dy, index, size, weight.shape[:2], window)
    return conv2d_grad_input.reference(dz, weight, size=size, **window)


@op(
    gradient_of=conv2d_bias_activation_maxpool,
    outputs=_pool_grad_sums_outputs,
    cases=[Case(s.name, _pool_operands(s), {"size": s.y[1:3]}, s.bench) for s in _POOLED],
    prefer=("rows",),
    flops=lambda dy, index, **_: 2 * math.prod(dy.shape),
    terms=lambda dy, index, **_: math.prod(dy.shape[:3]),
)
def conv2d_maxpool_grad_sums(dy: Array, index: Array, *, size: Pair) -> tuple[Array, Array]:
    """The gradients of `conv2d_bias_activation_maxpool` with respect to z = conv2d(x, weight) + b and to
    b. With dz, those with respect to x and weight are the gradients of `conv2d`.

    dy     (N, P // 2, Q // 2, K)
    index  same shape as dy, uint8: returned by the forward pass
    size   (P, Q) of z
    →      dz (N, P, Q, K): dy at the cells that index names, 0 elsewhere; db (K,)
    """
    dz = at_cells(dy, index, (len(dy), *size, dy.shape[3]))
    return dz, dz.sum(axis=(0, 1, 2))


# -- product, bias, activation -----------------------------------------------------------------------------------------


def _matmul_outputs(x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool) -> Any:
    (z,) = matmul.specs(x, weight, transpose_a=False, transpose_b=False)
    return ended_outputs("matmul_bias_activation", z, b, function, keep_input)


_DENSE = {
    "one": (1, 1, 1),
    "row": (1, 7, 5),
    "few_rows": (2, 301, 300),
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


def _dense_operands(m: int, k: int, n: int) -> tuple[Draw, Draw, Draw]:
    return real(m, k), real(k, n), real(n)


@op(
    outputs=_matmul_outputs,
    cases=[
        *(
            Case(name, _dense_operands(*sizes), {**RELU, "keep_input": False}, bench=group is _DENSE_BENCH)
            for group in (_DENSE, _DENSE_BENCH)
            for name, sizes in group.items()
        ),
        *(
            case
            for name in ("ragged", "quads", "three_units_long")
            for case in _product_cases(name, _dense_operands(*_DENSE[name]), {})
        ),
    ],
    prefer=("few_rows", "panels", "blas", "tensor", "warptiled", "direct"),
    factors=(0, 1),
    flops=lambda x, weight, b, **_: 2 * math.prod(x.shape) * weight.shape[1],
    terms=lambda x, weight, b, **_: x.shape[1] + 1,
    sums=lambda x, weight, b, **end: passed_on(x @ weight + b, **end),
    ulps=ULPS,
)
def matmul_bias_activation(x: Array, weight: Array, b: Array, *, function: str, alpha: float, keep_input: bool) -> Any:
    """y = f(z) with z = x @ weight + b. Its gradients: `bias_activation_grad`, then two products.

    x           (N, inputs)
    weight      (inputs, units)
    b           (units,)
    function    name of f, with its parameter alpha
    keep_input  whether z is returned too, for a function whose slope follows from it
    →           y (N, units), or y and z
    """
    return ended(x @ weight + b, function, alpha, keep_input)
