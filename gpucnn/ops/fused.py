"""Several layers in one op: a convolution or matrix product with bias, activation and pooling or dropout;
gradients.

A fused op saves memory traffic: it writes no intermediate result that the backward pass does not
need, and keeps one byte for each pooling window. The activation is a parameter, `function` with its
`alpha`: `epilogue.LINEAR` or one of `activation.FUNCTIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import Count, Fraction, Seed
from ..dispatch.case import Array, Case, Spec, integers, real
from ..dispatch.op import Op, op
from . import epilogue
from .activation import FUNCTIONS
from .conv2d import AXES, conv2d, conv2d_grad_input, conv2d_grad_weight
from .convolution import Setting, output
from .dropout import dropout
from .dropout import scale as scale_of
from .epilogue import LINEAR, RELU, ULPS, end, ended, passed_on, rises
from .fused_cases import (
    DENSE,
    DENSE_BENCH,
    ENDED,
    GROUPED,
    PLAIN,
    POOLED,
    conv_operands,
    dense_operands,
    dropped_cases,
    product_cases,
    window_of,
)
from .fused_shapes import (
    before_dropout,
    conv_output,
    conv_outputs,
    conv_pool_outputs,
    dropped_outputs,
    grad_weight_outputs,
    matmul_outputs,
    pool_grad_input_outputs,
    pool_grad_sums_outputs,
    pool_grad_weight_outputs,
)
from .window import ImagePads, Pair, at_cells, largest_cells, pooled

DEAD = 4
"""The index of a pooling window whose ReLU gives 0: none of its cells has a gradient."""

_PREFER_POOLED = ("winograd", "implicit_gemm", "pooled_direct", "halo", "pooled_tensor", "pooled_gemm", "direct")
_PREFER_UNPOOLED = ("few_taps", "sparse", "pooled_gemm", "direct")


def _conv_flops(y: Spec, weight: tuple[int, ...]) -> int:
    return 2 * math.prod(y.shape) * math.prod(weight[:3])


# -- convolution, bias, activation -------------------------------------------------------------------------------------


def _sums(x: Array, weight: Array, b: Array, window: dict[str, Any]) -> np.ndarray:
    return conv2d.reference(x, weight, **{"groups": 1, **window}) + b


@op(
    outputs=conv_outputs,
    cases=[
        *(Case(s.name, conv_operands(s), {**RELU, "keep_input": False, **window_of(s)}, s.bench) for s in PLAIN),
        *(case for s in ENDED for case in product_cases(s.name, conv_operands(s), window_of(s))),
        *(Case(s.name, conv_operands(s), {**RELU, "keep_input": False, **s.window}) for s in GROUPED),
        *(case for s in GROUPED[-1:] for case in product_cases(s.name, conv_operands(s), s.window)),
    ],
    prefer=("few_channels", "halo", "tensor", "winograd", "channelwise", "implicit_gemm", "direct"),
    factors=(0, 1),
    flops=lambda x, weight, b, *, function, alpha, keep_input, **window: _conv_flops(
        conv_output("conv2d_bias_activation", x, weight, **window), weight.shape
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
    groups: Count = 1,
) -> Any:
    """y = f(z) with z = conv2d(x, weight) + b. Its gradients: `bias_activation_grad`, then those of
    `conv2d`; or, in one group, those of weight and b alone, `conv2d_bias_activation_grad_weight`.

    x           (N, H, W, C)
    weight      (R, S, C / groups, K)
    b           (K,)
    function    name of f, with its parameter alpha
    keep_input  whether z is returned too, for a function whose slope follows from it
    →           y (N, P, Q, K), or y and z
    """
    z = _sums(x, weight, b, {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups})
    return ended(z, function, alpha, keep_input)


def _grad_weight_of(dz: np.ndarray, x: np.ndarray, kernel_size: Pair, window: dict[str, Any]) -> Any:
    return conv2d_grad_weight.body(dz, x, kernel_size=kernel_size, groups=1, **window), dz.sum(axis=(0, 1, 2))


def _grad_weight_case(s: Setting, function: str = "relu", name: str = "", **scale: float) -> Case:
    operands = real(*s.y), real(*s.y, low=-0.99, high=0.99), real(*s.x)
    return Case(
        s.name + name, operands, {**end(function), "kernel_size": s.weight[:2], **scale, **window_of(s)}, s.bench
    )


@op(
    gradient_of=conv2d_bias_activation,
    outputs=grad_weight_outputs,
    cases=[
        *map(_grad_weight_case, PLAIN),
        *(_grad_weight_case(s, name="_scaled", scale=1.25) for s in ENDED),
        *(_grad_weight_case(ENDED[0], f, f"_{f}") for f in (LINEAR, *FUNCTIONS) if f != "relu" and rises(**end(f))),
    ],
    prefer=("few_channels", "direct"),
    flops=lambda dy, y, x, *, kernel_size, **_: _conv_flops(dy, (*kernel_size, x.shape[-1])),
    terms=lambda dy, y, x, **_: math.prod(dy.shape[:3]),
    sums=lambda dy, y, x, *, function, alpha, kernel_size, scale=1.0, **window: _grad_weight_of(
        dy * scale * (epilogue.steepest(function, alpha, 1.0) + ULPS / 4), x, kernel_size, window
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
    scale: float = 1.0,
) -> tuple[Array, Array]:
    """The gradients of `conv2d_bias_activation` with respect to weight and b, for a layer that needs none
    with respect to x: dz = scale · dy times the slope of f is not a result.

    dy           (N, P, Q, K)
    y            same shape as dy: the result of the forward pass, from which the slope of f must follow
    x            (N, H, W, C)
    function     name of f, with its parameter alpha
    kernel_size  (R, S) of weight
    scale        as for `bias_activation_grad`
    →            dweight (R, S, C, K), db (K,)
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation}
    return _grad_weight_of(epilogue.gradient(dy * scale, y, function, alpha), x, kernel_size, window)


# -- convolution, bias, activation, dropout ----------------------------------------------------------------------------


def _dropped_sums(ended: Op) -> Callable[..., np.ndarray]:
    """The bound of an op followed by dropout."""

    def sums(x: Array, weight: Array, b: Array, step: Array, *, rate: float, **params: Any) -> np.ndarray:
        return ended.sums(x, weight, b, **before_dropout(params)) * scale_of(rate)  # type: ignore[misc]

    return sums


@op(
    outputs=dropped_outputs(conv2d_bias_activation),
    cases=[
        *(case for s in ENDED for case in dropped_cases(s.name, conv_operands(s), window_of(s))),
        *(dropped_cases(s.name, conv_operands(s), window_of(s), bench=True)[0] for s in PLAIN if s.bench),
    ],
    prefer=("few_channels", "tensor", "implicit_gemm", "direct"),
    factors=(0, 1),
    flops=lambda x, weight, b, step, **params: _conv_flops(
        conv2d_bias_activation.specs(x, weight, b, **before_dropout(params))[0], weight.shape
    ),
    terms=lambda x, weight, *_, **__: math.prod(weight.shape[:3]) + 1,
    sums=_dropped_sums(conv2d_bias_activation),
    ulps=ULPS,
)
def conv2d_bias_activation_dropout(
    x: Array,
    weight: Array,
    b: Array,
    step: Array,
    *,
    function: str,
    alpha: float,
    strides: Pair,
    padding: ImagePads,
    dilation: Pair,
    rate: Fraction,
    seed: Seed,
    stream: Seed,
    counter: Seed = 0,
) -> Array:
    """`dropout` of the result of `conv2d_bias_activation`. Where f is relu and rate below 1, the gradients are
    those without dropout at this result, dy times `dropout.scale(rate)`: it is 0 wherever a value was
    dropped, and so is the slope of relu.

    step, rate, seed, stream, counter  as for `dropout`
    the others                         as for `conv2d_bias_activation`
    →                                  y (N, P, Q, K)
    """
    window = {"strides": strides, "padding": padding, "dilation": dilation}
    y = conv2d_bias_activation.reference(x, weight, b, function=function, alpha=alpha, keep_input=False, **window)
    return dropout.reference(y, step, rate=rate, seed=seed, stream=stream, counter=counter)


# -- convolution, bias, activation, 2×2 pooling ------------------------------------------------------------------------


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
    outputs=conv_pool_outputs,
    cases=[
        *(Case(s.name, conv_operands(s), {**RELU, **window_of(s)}, s.bench) for s in POOLED),
        *(
            Case(f"{s.name}_{function}", conv_operands(s), {**end(function), **window_of(s)})
            for s in ENDED
            for function in (LINEAR, "tanh", "leaky_relu", "selu")
        ),
    ],
    prefer=_PREFER_POOLED,
    factors=(0, 1),
    flops=lambda x, weight, b, *, function, alpha, **window: (
        4 * _conv_flops(conv_pool_outputs(x, weight, b, function=function, alpha=alpha, **window)[0], weight.shape)
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
    outputs=pool_grad_weight_outputs,
    cases=[
        Case(s.name, (*_pool_operands(s), real(*s.x)), {"kernel_size": s.weight[:2], **window_of(s)}, s.bench)
        for s in POOLED
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
    outputs=pool_grad_input_outputs,
    cases=[
        Case(s.name, (*_pool_operands(s), real(*s.weight)), {"size": s.x[1:3], **window_of(s)}, s.bench) for s in POOLED
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
    outputs=pool_grad_sums_outputs,
    cases=[Case(s.name, _pool_operands(s), {"size": s.y[1:3]}, s.bench) for s in POOLED],
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


@op(
    outputs=matmul_outputs,
    cases=[
        *(
            Case(name, dense_operands(*sizes), {**RELU, "keep_input": False}, bench=group is DENSE_BENCH)
            for group in (DENSE, DENSE_BENCH)
            for name, sizes in group.items()
        ),
        *(
            case
            for name in ("ragged", "quads", "three_units_long")
            for case in product_cases(name, dense_operands(*DENSE[name]), {})
        ),
    ],
    prefer=("few_rows", "streamed", "panels", "blas", "tensor", "warptiled", "direct"),
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


# -- product, bias, activation, dropout --------------------------------------------------------------------------------


@op(
    outputs=dropped_outputs(matmul_bias_activation),
    cases=[
        *(
            case
            for name in ("ragged", "quads", "quads_beyond_tiles", "long", "a_line_long")
            for case in dropped_cases(name, dense_operands(*DENSE[name]), {})
        ),
        *(dropped_cases(n, dense_operands(*DENSE_BENCH[n]), {}, bench=True)[0] for n in ("mlearning", "cifar")),
    ],
    prefer=("tensor", "warptiled", "direct"),
    factors=(0, 1),
    flops=lambda x, weight, b, step, **_: 2 * math.prod(x.shape) * weight.shape[1],
    terms=lambda x, *_, **__: x.shape[1] + 1,
    sums=_dropped_sums(matmul_bias_activation),
    ulps=ULPS,
)
def matmul_bias_activation_dropout(
    x: Array,
    weight: Array,
    b: Array,
    step: Array,
    *,
    function: str,
    alpha: float,
    rate: Fraction,
    seed: Seed,
    stream: Seed,
    counter: Seed = 0,
) -> Array:
    """`dropout` of the result of `matmul_bias_activation`. Its gradients are found as those of
    `conv2d_bias_activation_dropout`.

    step, rate, seed, stream, counter  as for `dropout`
    the others                         as for `matmul_bias_activation`
    →                                  y (N, units)
    """
    y = matmul_bias_activation.reference(x, weight, b, function=function, alpha=alpha, keep_input=False)
    return dropout.reference(y, step, rate=rate, seed=seed, stream=stream, counter=counter)
