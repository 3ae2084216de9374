"""A convolution of images or volumes with bias, activation and pooling by any windows in one op, and the
gradient of what the windows see.

`fused.conv2d_bias_activation_maxpool` is the special case of 2 × 2 side by side, whose gradients need not be
written out. These ops have kernels for the CPU alone: on a GPU, those that they join run one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..arguments import Count
from ..dispatch.case import Array, Case, Spec, integers, real
from ..dispatch.op import Op, op
from ..errors import ArgumentError, ShapeError
from . import conv2d as of_images
from . import conv3d as of_volumes
from . import epilogue
from .convolution import Setting, output, setting
from .epilogue import LINEAR, RELU, ULPS, end, ended_outputs, passed_on
from .fused_cases import GROUPED, PLAIN, conv_operands
from .pool2d import cropped, mean, mean_grad, padded, taps, windows_of
from .window import Extents, Pads

MOST_TAPS = 127
"""Cells of a window of which the index of one, and a mark for none, fit a signed byte."""

_NAME = "conv_bias_activation_pool"


def _windows(pool: Extents, strides: Extents, padding: Pads | None = None) -> dict[str, Any]:
    return {"pool": pool, "pool_strides": strides, "pool_padding": padding or ((0, 0),) * len(pool)}


_WINDOWS = {
    "halves": _windows((2, 2), (2, 2)),
    "overlapping": _windows((3, 3), (2, 2)),
    "padded": _windows((3, 2), (2, 1), ((1, 1), (1, 0))),
    "apart": _windows((1, 2), (2, 3)),
}
_WINDOWS_OF_VOLUMES = {
    "halves": _windows((2, 2, 2), (2, 2, 2)),
    "padded": _windows((2, 3, 2), (1, 2, 1), ((1, 0), (1, 1), (0, 1))),
    "overlapping": _windows((3, 2, 3), (2, 1, 2)),
    "padded_halves": _windows((2, 2, 2), (2, 1, 2), ((1, 1), (0, 1), (1, 0))),
}


def _fits(one: Setting, windows: dict[str, Any]) -> bool:
    """Whether there is a whole window in the result of a convolution."""
    sizes = zip(one.y[1:-1], windows["pool"], windows["pool_padding"], strict=True)
    return all(size + sum(around) >= taps for size, taps, around in sizes)


def _pooled_settings(places: Iterable[Setting], label: str, windows: dict[str, Any]) -> list[Any]:
    return [
        (f"{one.name}{label}_{name}", one, window)
        for place, one in enumerate(one for one in places if not one.bench)
        for number, (name, window) in enumerate(windows.items())
        if number % 2 == place % 2 and _fits(one, window)
    ]


_PLACES = (*PLAIN, *GROUPED, setting("three_images", x=(3, 9, 8, 5), weight=(2, 3, 5, 12)))
_VOLUMES = (
    *of_volumes.SETTINGS,
    setting("many_filters", x=(2, 5, 6, 7, 3), weight=(2, 3, 3, 3, 21)),
    setting("three_volumes", x=(3, 6, 5, 4, 2), weight=(3, 2, 1, 2, 16), padding=((1, 1), (0, 1), (0, 0))),
)
_SETTINGS = [
    *_pooled_settings(_PLACES, "", _WINDOWS),
    *_pooled_settings(_VOLUMES, "_3d", _WINDOWS_OF_VOLUMES),
]
_BENCH = (
    setting("overlapping_1", x=(64, 32, 32, 3), weight=(5, 5, 3, 32), padding=((2, 2), (2, 2)), bench=True),
    setting("overlapping_2", x=(64, 15, 15, 32), weight=(5, 5, 32, 64), padding=((2, 2), (2, 2)), bench=True),
)
_ENDS = ({"kind": "max", **RELU, "keep": True}, {"kind": "mean", **end("tanh"), "keep": True})
_OTHER_ENDS = [
    *({"kind": "max", **end(function), "keep": function == "selu"} for function in (LINEAR, "leaky_relu", "selu")),
    *({"kind": "mean", **end(function), "keep": function == "elu"} for function in (LINEAR, "relu", "elu")),
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


def _convolution(x: Any) -> Op:
    """The convolution of images, or that of volumes."""
    return of_volumes.conv3d if len(x.shape) == 5 else of_images.conv2d


def _outputs(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, kind: str, keep: bool, **params: Any
) -> tuple[Spec, ...]:
    _check_axes(_NAME, x, **{name: value for name, value in params.items() if name != "groups"})
    axes = of_volumes.AXES if len(x.shape) == 5 else of_images.AXES
    z = output(axes._replace(op=_NAME), x, weight, **_of_convolution(params))
    ended_outputs(_NAME, z, b, function, False)
    _check(_NAME, function, alpha, kind, params["pool"])
    y = windows_of(_NAME, z, **_of_pooling(params))
    return (y, _kept(y, z, kind)) if keep else (y,)


def _kept(y: Spec, z: Spec, kind: str) -> Spec:
    return Spec(y.shape, np.dtype(np.uint8)) if kind == "max" else z


def _check_axes(name: str, x: Spec, **parameters: Any) -> None:
    """Raise `ShapeError` unless these have a number, or a pair, for each axis of the images or volumes."""
    for parameter, values in parameters.items():
        if len(values) != len(x.shape) - 2 or len(x.shape) not in (4, 5):
            raise ShapeError(
                f"{name}: {parameter}={tuple(values)} is for {len(values)} axes, and an array of shape {x.shape} is "
                f"not that of a batch with channels and so many axes between, 2 or 3"
            )


def _check(name: str, function: str, alpha: float, kind: str, pool: Extents) -> None:
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
        return mean(results, **window), results
    image = padded(z, window["padding"], -np.inf)
    cells = np.stack([image[tap] for tap in taps(image, window["pool"], window["strides"])])
    largest, index = cells.max(axis=0), cells.argmax(axis=0)
    if function == "relu":
        index = np.where(largest <= 0, len(cells), index)
    return epilogue.finished(largest, function, alpha), index.astype(np.uint8)


def _sums(
    x: Array, weight: Array, b: Array, *, function: str, alpha: float, kind: str, keep: bool, **params: Any
) -> Any:
    """Σ|a||b| of the sums as far as they reach a result."""
    windows = _of_pooling(params)
    z = passed_on(_convolution(x).reference(x, weight, **_of_convolution(params)) + b, function, alpha, False)
    y, kept = _pooled(z, LINEAR, 0.0, kind, windows)
    y = y + ULPS / 4 if kind == "mean" else y
    return (y, kept) if keep else y


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
        2
        * math.prod(_convolution(x).specs(x, weight, **_of_convolution(params))[0].shape)
        * math.prod(weight.shape[:-1])
    ),
    terms=lambda x, weight, b, *, pool, **_: math.prod(weight.shape[:-1]) + 1 + math.prod(pool),
    sums=_sums,
    ulps=ULPS,
)
def conv_bias_activation_pool(
    x: Array,
    weight: Array,
    b: Array,
    *,
    function: str,
    alpha: float,
    kind: str,
    keep: bool,
    strides: Extents,
    padding: Pads,
    dilation: Extents,
    groups: Count,
    pool: Extents,
    pool_strides: Extents,
    pool_padding: Pads,
) -> Any:
    """The largest or the mean of each window of f(conv(x, weight) + b), where conv is `conv2d` or `conv3d`, and
    what its gradient needs.

    x             (N, H, W, C), or (N, D, H, W, C)
    weight        (R, S, C / groups, K), or (T, R, S, C / groups, K)
    b             (K,)
    function      name of f, with its parameter alpha: its slope must follow from its result and, for the
                  largest, be positive or 0
    kind          "max" or "mean"; padding never wins and does not count
    keep          whether the second result is returned
    pool          (planes,) rows and columns of a window, at most 126 cells for "max"; with pool_strides and
                  pool_padding as for `maxpool2d`
    →             y (N, …, K); for "mean" what it is the mean of, a result of the convolution; for "max" index,
                  uint8, shaped like y: the first cell of the window, row by row, that holds the largest, or the
                  number of cells where f is relu and y is 0
    """
    params = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    window = {"pool": pool, "strides": pool_strides, "padding": pool_padding}
    y, kept = _pooled(_convolution(x).reference(x, weight, **params) + b, function, alpha, kind, window)
    return (y, kept) if keep else y


def _grad_cases() -> list[Case]:
    cases = []
    for name, one, windows in _SETTINGS:
        z = Spec(one.y, np.dtype(np.float32))
        y = windows_of(_NAME, z, **_of_pooling(windows)).shape
        cells = math.prod(windows["pool"])
        where = {"size": one.y[1:-1], **windows}
        index = integers(*y, high=cells + 1, dtype="uint8")
        cases.append(Case(f"{name}_max", (real(*y), index), {"kind": "max", **end(LINEAR), **where}))
        results = real(*one.y, low=-0.99, high=0.99)
        cases.append(Case(f"{name}_mean", (real(*y), results), {"kind": "mean", **end("tanh"), **where}))
    one, windows = _BENCH[0], _WINDOWS["overlapping"]
    y = windows_of(_NAME, Spec(one.y, np.dtype(np.float32)), **_of_pooling(windows)).shape
    index = integers(*y, high=10, dtype="uint8")
    params = {"kind": "max", **end(LINEAR), "size": one.y[1:-1], **windows}
    return [*cases, Case(one.name, (real(*y), index), params, bench=True)]


def _grad_outputs(
    dy: Spec, kept: Spec, *, function: str, alpha: float, kind: str, size: Extents, **windows: Any
) -> tuple[Spec, Spec]:
    name = "conv_pool_grad_sums"
    _check_axes(name, dy, size=size, **windows)
    _check(name, function, alpha, kind, windows["pool"])
    if kind == "max" and function != LINEAR:
        raise ArgumentError(f"{name}: function={function!r} with the largest: multiply dy by its slope before")
    z = dy.like(dy.shape[0], *size, dy.shape[-1])
    y = windows_of(name, z, **_of_pooling(windows))
    expected = _kept(y, z, kind)
    if dy != y or kept != expected:
        raise ShapeError(
            f"{name}: dy is {dy.shape} {dy.dtype} and kept {kept.shape} {kept.dtype}, but {_NAME} returns {y.shape} "
            f"{y.dtype} and {expected.shape} {expected.dtype}"
        )
    return z, dy.like(dy.shape[-1])


def _spread(dy: Array, kept: Array, kind: str, size: Extents, window: dict[str, Any]) -> np.ndarray:
    """The gradient of what the windows see."""
    if kind == "mean":
        return mean_grad(dy, size, **window)
    shape = (dy.shape[0], *size, dy.shape[-1])
    dz = padded(np.zeros(shape, dy.dtype), window["padding"], 0)
    for number, tap in enumerate(taps(dz, window["pool"], window["strides"])):
        dz[tap] += np.where(kept == number, dy, 0)
    return cropped(dz, shape, window["padding"])


def _grad_bound(dy: Array, kept: Array, *, function: str, alpha: float, kind: str, size: Extents, **params: Any) -> Any:
    dz = _spread(dy, kept, kind, size, _of_pooling(params)) * (epilogue.steepest(function, alpha, 1.0) + ULPS / 4)
    return dz, dz.sum(axis=(*range(dz.ndim - 1),))


@op(
    gradient_of=conv_bias_activation_pool,
    outputs=_grad_outputs,
    cases=_grad_cases(),
    prefer=("windows",),
    factors=(0,),
    flops=lambda dy, kept, *, pool, **_: 2 * math.prod(dy.shape) * math.prod(pool),
    terms=lambda dy, kept, *, size, pool, **_: dy.shape[0] * math.prod(size) + math.prod(pool),
    sums=_grad_bound,
    ulps=ULPS,
)
def conv_pool_grad_sums(
    dy: Array,
    kept: Array,
    *,
    function: str,
    alpha: float,
    kind: str,
    size: Extents,
    pool: Extents,
    pool_strides: Extents,
    pool_padding: Pads,
) -> tuple[Array, Array]:
    """The gradients of `conv_bias_activation_pool` with respect to z = conv(x, weight) + b and to b.

    dy        (N, …, K)
    kept      the second result of the forward pass
    function  name of f, with its parameter alpha; "linear" with "max", where dy is multiplied by the slope
              before unless f is relu, of which the index says where it is 0
    size      (planes,) rows and columns of z
    →         dz (N, *size, K), db (K,)

    The other parameters are those of the forward pass.
    """
    dz = _spread(dy, kept, kind, size, {"pool": pool, "strides": pool_strides, "padding": pool_padding})
    if kind == "mean":
        dz = epilogue.gradient(dz, kept, function, alpha)
    return dz, dz.sum(axis=(*range(dz.ndim - 1),))
