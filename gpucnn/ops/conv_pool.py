"""A convolution with bias, activation and pooling by any windows in one op, and the gradient of what the
windows see.

`fused.conv2d_bias_activation_maxpool` is the special case of 2 × 2 side by side, whose gradients need not be
written out. These ops have kernels for the CPU alone: on a GPU, those that they join run one by one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arguments import Count
from ..dispatch.case import Array, Case, Spec, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError
from . import epilogue
from .conv2d import conv2d
from .convolution import Setting, setting
from .epilogue import LINEAR, RELU, ULPS, end, passed_on
from .fused_cases import GROUPED, PLAIN, conv_operands
from .fused_shapes import conv_outputs
from .pool2d import avgpool2d, avgpool2d_grad, cropped, output, padded, taps
from .window import ImagePads, Pair

MOST_TAPS = 127
"""Cells of a window of which the index of one, and a mark for none, fit a signed byte."""

_NAME = "conv2d_bias_activation_pool"


def _windows(pool: Pair, strides: Pair, padding: ImagePads = ((0, 0), (0, 0))) -> dict[str, Any]:
    return {"pool": pool, "pool_strides": strides, "pool_padding": padding}


_WINDOWS = {
    "halves": _windows((2, 2), (2, 2)),
    "overlapping": _windows((3, 3), (2, 2)),
    "padded": _windows((3, 2), (2, 1), ((1, 1), (1, 0))),
    "apart": _windows((1, 2), (2, 3)),
}


def _fits(one: Setting, windows: dict[str, Any]) -> bool:
    """Whether there is a whole window in the result of a convolution."""
    sizes = zip(one.y[1:3], windows["pool"], windows["pool_padding"], strict=True)
    return all(size + sum(around) >= taps for size, taps, around in sizes)


_PLACES = (*PLAIN, *GROUPED, setting("three_images", x=(3, 9, 8, 5), weight=(2, 3, 5, 12)))
_SETTINGS = [
    (f"{one.name}_{name}", one, windows)
    for place, one in enumerate(one for one in _PLACES if not one.bench)
    for number, (name, windows) in enumerate(_WINDOWS.items())
    if number % 2 == place % 2 and _fits(one, windows)
]
_BENCH = (
    setting("overlapping_1", x=(64, 32, 32, 3), weight=(5, 5, 3, 32), padding=((2, 2), (2, 2)), bench=True),
    setting("overlapping_2", x=(64, 15, 15, 32), weight=(5, 5, 32, 64), padding=((2, 2), (2, 2)), bench=True),
)
_ENDS = ({"kind": "max", **RELU}, {"kind": "mean", **end("tanh")})
_OTHER_ENDS = [
    *({"kind": "max", **end(function)} for function in (LINEAR, "leaky_relu", "selu")),
    *({"kind": "mean", **end(function)} for function in (LINEAR, "relu", "elu")),
]


def _cases() -> list[Case]:
    cases = []
    for number, (name, one, windows) in enumerate(_SETTINGS):
        ends = (*_ENDS, *(_OTHER_ENDS if number % 9 == 0 else ()))
        for ending in ends:
            label = f"{name}_{ending['kind']}_{ending['function']}"
            cases.append(Case(label, conv_operands(one), {**ending, **one.window, **windows}))
    windows = _WINDOWS["overlapping"]
    cases += [Case(s.name, conv_operands(s), {**_ENDS[0], **s.window, **windows}, bench=True) for s in _BENCH]
    return cases


def _outputs(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, kind: str, **params: Any
) -> tuple[Spec, Spec]:
    z = conv_outputs(x, weight, b, function=function, alpha=alpha, keep_input=False, **_of_convolution(params))
    _check(_NAME, function, alpha, kind, params["pool"])
    y = output(_NAME, z, **_of_pooling(params))
    return y, Spec(y.shape, np.dtype(np.uint8)) if kind == "max" else z


def _check(name: str, function: str, alpha: float, kind: str, pool: Pair) -> None:
    if kind not in ("max", "mean"):
        raise ArgumentError(f"{name}: kind={kind!r} is unknown: use 'max' or 'mean'")
    epilogue.check_of_result(name, function, alpha)
    if kind == "max" and not epilogue.rises(function, alpha):
        raise ArgumentError(f"{name}: {function} with alpha={alpha} falls somewhere: pool its results instead")
    if kind == "max" and math.prod(pool) >= MOST_TAPS:
        raise ShapeError(f"{name}: a window {tuple(pool)} has {math.prod(pool)} cells, and at most {MOST_TAPS - 1} fit")


def _pooled(z: np.ndarray, function: str, alpha: float, kind: str, window: dict[str, Any]) -> tuple[Array, Array]:
    if kind == "mean":
        results = epilogue.finished(z, function, alpha)
        return avgpool2d.reference(results, **window), results
    image = padded(z, window["padding"], -np.inf)
    cells = np.stack([image[tap] for tap in taps(image, window["pool"], window["strides"])])
    largest, index = cells.max(axis=0), cells.argmax(axis=0)
    if function == "relu":
        index = np.where(largest <= 0, len(cells), index)
    return epilogue.finished(largest, function, alpha), index.astype(np.uint8)


def _sums(x: Array, weight: Array, b: Array, *, function: str, alpha: float, kind: str, **params: Any) -> Any:
    """Σ|a||b| of the sums as far as they reach a result."""
    windows = _of_pooling(params)
    z = passed_on(conv2d.reference(x, weight, **_of_convolution(params)) + b, function, alpha, False)
    y, kept = _pooled(z, LINEAR, 0.0, kind, windows)
    return (y + ULPS / 4, kept) if kind == "mean" else (y, kept)


def _of_pooling(params: dict[str, Any]) -> dict[str, Any]:
    return {"pool": params["pool"], "strides": params["pool_strides"], "padding": params["pool_padding"]}


def _of_convolution(params: dict[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in ("strides", "padding", "dilation", "groups")}


@op(
    outputs=_outputs,
    cases=_cases(),
    prefer=("winograd", "implicit_gemm"),
    factors=(0, 1),
    flops=lambda x, weight, b, **params: (
        2 * math.prod(conv2d.specs(x, weight, **_of_convolution(params))[0].shape) * math.prod(weight.shape[:3])
    ),
    terms=lambda x, weight, b, *, pool, **_: math.prod(weight.shape[:3]) + 1 + math.prod(pool),
    sums=_sums,
    ulps=ULPS,
)
def conv2d_bias_activation_pool(
    x: Array,
    weight: Array,
    b: Array,
    *,
    function: str,
    alpha: float,
    kind: str,
    strides: Pair,
    padding: ImagePads,
    dilation: Pair,
    groups: Count,
    pool: Pair,
    pool_strides: Pair,
    pool_padding: ImagePads,
) -> tuple[Array, Array]:
    """The largest or the mean of each window of f(conv2d(x, weight) + b), and what its gradient needs.

    x             (N, H, W, C)
    weight        (R, S, C / groups, K)
    b             (K,)
    function      name of f, with its parameter alpha: its slope must follow from its result and, for the
                  largest, be positive or 0
    kind          "max" or "mean"; padding never wins and does not count
    pool          rows and columns of a window, at most 126 cells for "max"; with pool_strides and pool_padding
                  as for `maxpool2d`
    →             y (N, P, Q, K); for "mean" what it is the mean of, (N, rows, columns, K); for "max" index,
                  uint8, shaped like y: the first cell of the window, row by row, that holds the largest, or the
                  number of cells where f is relu and y is 0
    """
    params = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    window = {"pool": pool, "strides": pool_strides, "padding": pool_padding}
    return _pooled(conv2d.reference(x, weight, **params) + b, function, alpha, kind, window)


def _grad_cases() -> list[Case]:
    cases = []
    for name, one, windows in _SETTINGS:
        z = Spec(one.y, np.dtype(np.float32))
        y = output(_NAME, z, **_of_pooling(windows)).shape
        cells = math.prod(windows["pool"])
        where = {"size": one.y[1:3], **windows}
        index = integers(*y, high=cells + 1, dtype="uint8")
        cases.append(Case(f"{name}_max", (real(*y), index), {"kind": "max", **end(LINEAR), **where}))
        results = real(*one.y, low=-0.99, high=0.99)
        cases.append(Case(f"{name}_mean", (real(*y), results), {"kind": "mean", **end("tanh"), **where}))
    one, windows = _BENCH[0], _WINDOWS["overlapping"]
    y = output(_NAME, Spec(one.y, np.dtype(np.float32)), **_of_pooling(windows)).shape
    index = integers(*y, high=10, dtype="uint8")
    params = {"kind": "max", **end(LINEAR), "size": one.y[1:3], **windows}
    return [*cases, Case(one.name, (real(*y), index), params, bench=True)]


def _grad_outputs(
    dy: Spec, kept: Spec, *, function: str, alpha: float, kind: str, size: Pair, **windows: Any
) -> tuple[Spec, Spec]:
    name = "conv2d_pool_grad_sums"
    if len(dy.shape) != 4:
        raise ShapeError(f"{name}: dy needs 4 axes (N, P, Q, K) and has shape {dy.shape}")
    _check(name, function, alpha, kind, windows["pool"])
    if kind == "max" and function != LINEAR:
        raise ArgumentError(f"{name}: function={function!r} with the largest: multiply dy by its slope before")
    z = dy.like(dy.shape[0], *size, dy.shape[3])
    y = output(name, z, **_of_pooling(windows))
    expected = Spec(y.shape, np.dtype(np.uint8)) if kind == "max" else z
    if dy != y or kept != expected:
        raise ShapeError(
            f"{name}: dy is {dy.shape} {dy.dtype} and kept {kept.shape} {kept.dtype}, but {_NAME} returns {y.shape} "
            f"{y.dtype} and {expected.shape} {expected.dtype}"
        )
    return z, dy.like(dy.shape[3])


def _spread(dy: Array, kept: Array, kind: str, size: Pair, window: dict[str, Any]) -> np.ndarray:
    """The gradient of what the windows see."""
    if kind == "mean":
        return avgpool2d_grad.reference(dy, size=size, **window)
    shape = (dy.shape[0], *size, dy.shape[3])
    dz = padded(np.zeros(shape, dy.dtype), window["padding"], 0)
    for number, tap in enumerate(taps(dz, window["pool"], window["strides"])):
        dz[tap] += np.where(kept == number, dy, 0)
    return cropped(dz, shape, window["padding"])


def _grad_bound(dy: Array, kept: Array, *, function: str, alpha: float, kind: str, size: Pair, **params: Any) -> Any:
    dz = _spread(dy, kept, kind, size, _of_pooling(params)) * (epilogue.steepest(function, alpha, 1.0) + ULPS / 4)
    return dz, dz.sum(axis=(0, 1, 2))


@op(
    gradient_of=conv2d_bias_activation_pool,
    outputs=_grad_outputs,
    cases=_grad_cases(),
    prefer=("windows",),
    factors=(0,),
    flops=lambda dy, kept, *, pool, **_: 2 * math.prod(dy.shape) * math.prod(pool),
    terms=lambda dy, kept, *, size, pool, **_: dy.shape[0] * math.prod(size) + math.prod(pool),
    sums=_grad_bound,
    ulps=ULPS,
)
def conv2d_pool_grad_sums(
    dy: Array,
    kept: Array,
    *,
    function: str,
    alpha: float,
    kind: str,
    size: Pair,
    pool: Pair,
    pool_strides: Pair,
    pool_padding: ImagePads,
) -> tuple[Array, Array]:
    """The gradients of `conv2d_bias_activation_pool` with respect to z = conv2d(x, weight) + b and to b.

    dy        (N, P, Q, K)
    kept      the second result of the forward pass
    function  name of f, with its parameter alpha; "linear" with "max", where dy is multiplied by the slope
              before unless f is relu, of which the index says where it is 0
    size      rows and columns of z
    →         dz (N, rows, columns, K), db (K,)

    The other parameters are those of the forward pass.
    """
    dz = _spread(dy, kept, kind, size, {"pool": pool, "strides": pool_strides, "padding": pool_padding})
    if kind == "mean":
        dz = epilogue.gradient(dz, kept, function, alpha)
    return dz, dz.sum(axis=(0, 1, 2))
