"""What convolutions over two and three axes have in common: shape rules, counts of work, and cases."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..errors import ArgumentError
from ..op import Case, ShapeError, Spec, real
from .window import positions, span

PREFER = ("implicit_gemm", "im2col", "direct")
"""The order in which "auto" tries the algorithms."""


class Convolution(NamedTuple):
    """A convolution op's name, and what messages call the axes of its arrays: `("N", "H", "W", "C")` and so on."""

    name: str
    x: tuple[str, ...]
    weight: tuple[str, ...]
    y: tuple[str, ...]


class Setting(NamedTuple):
    """A named size of the problem, from which each of the three ops takes its operands."""

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    window: dict[str, Any]
    bench: bool


def setting(
    name: str,
    n: int,
    size: tuple[int, ...],
    channels: int,
    kernel_size: tuple[int, ...],
    filters: int,
    *,
    strides: tuple[int, ...] | None = None,
    padding: tuple[tuple[int, int], ...] | None = None,
    dilation: tuple[int, ...] | None = None,
    groups: int = 1,
    bench: bool = False,
) -> Setting:
    """A setting; strides and dilation are 1 and padding is 0 where they are left out."""
    ones = (1,) * len(size)
    strides, dilation, padding = strides or ones, dilation or ones, padding or ((0, 0),) * len(size)
    extents = map(positions, size, kernel_size, strides, dilation, padding)
    return Setting(
        name,
        (n, *size, channels),
        (*kernel_size, channels // groups, filters),
        (n, *extents, filters),
        {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups},
        bench,
    )


def forward(conv: Convolution, settings: list[Setting]) -> dict[str, Any]:
    """The arguments of `@op` for y = conv(x, weight)."""
    return {
        "prefer": PREFER,
        "outputs": lambda x, weight, **window: output(conv, x, weight, **window),
        "cases": [Case(s.name, (real(*s.x), real(*s.weight)), s.window, s.bench) for s in settings],
        "flops": lambda x, weight, **window: _flops(output(conv, x, weight, **window), weight.shape),
        "terms": lambda x, weight, **_: math.prod(weight.shape[:-1]),
    }


def grad_input(conv: Convolution, settings: list[Setting]) -> dict[str, Any]:
    """The arguments of `@op` for dx = conv_grad_input(dy, weight)."""

    def outputs(dy: Spec, weight: Spec, *, size: tuple[int, ...], groups: int, **window: Any) -> Spec:
        name = f"{conv.name}_grad_input"
        _check_axes(name, dy=(dy, conv.y), weight=(weight, conv.weight))
        x = dy.like(dy.shape[0], *size, weight.shape[-2] * groups)
        _check_dy(name, conv, dy, output(conv, x, weight, groups=groups, **window))
        return x

    return {
        "prefer": PREFER,
        "outputs": outputs,
        "cases": [
            Case(s.name, (real(*s.y), real(*s.weight)), {"size": s.x[1:-1], **s.window}, s.bench) for s in settings
        ],
        "flops": lambda dy, weight, **_: _flops(dy, weight.shape),
        "terms": lambda dy, weight, groups, **_: math.prod(weight.shape[:-2]) * weight.shape[-1] // groups,
    }


def grad_weight(conv: Convolution, settings: list[Setting]) -> dict[str, Any]:
    """The arguments of `@op` for dweight = conv_grad_weight(dy, x)."""

    def outputs(dy: Spec, x: Spec, *, kernel_size: tuple[int, ...], groups: int, **window: Any) -> Spec:
        name = f"{conv.name}_grad_weight"
        _check_axes(name, dy=(dy, conv.y), x=(x, conv.x))
        weight = x.like(*kernel_size, x.shape[-1] // groups, dy.shape[-1])
        _check_dy(name, conv, dy, output(conv, x, weight, groups=groups, **window))
        return weight

    return {
        "prefer": PREFER,
        "outputs": outputs,
        "cases": [
            Case(s.name, (real(*s.y), real(*s.x)), {"kernel_size": s.weight[:-2], **s.window}, s.bench)
            for s in settings
        ],
        "flops": lambda dy, x, kernel_size, groups, **_: _flops(dy, (*kernel_size, x.shape[-1] // groups, 0)),
        "terms": lambda dy, x, **_: math.prod(dy.shape[:-1]),
    }


def output(
    conv: Convolution,
    x: Spec,
    weight: Spec,
    *,
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Spec:
    """The `Spec` of a convolution's result, or `ShapeError`."""
    _check_axes(conv.name, x=(x, conv.x), weight=(weight, conv.weight))
    given = f"x {_axes(conv.x)} = {x.shape}, weight {_axes(conv.weight)} = {weight.shape}"
    if x.dtype != weight.dtype:
        raise ArgumentError(
            f"{conv.name}: x is {x.dtype} but weight is {weight.dtype}: convert one to the other's dtype"
        )
    channels, filters = weight.shape[-2:]
    if x.shape[-1] != channels * groups:
        has = f"{x.shape[-1]} channel" + "s" * (x.shape[-1] != 1)
        split = f" ({groups} groups of {channels})" if groups > 1 else ""
        raise ShapeError(f"{conv.name}: x has {has} but weight expects {channels * groups}{split}: {given}")
    if filters % groups:
        raise ShapeError(f"{conv.name}: {filters} filters cannot be split into {groups} groups: {given}")
    extents = []
    for axis, (size, taps) in enumerate(zip(x.shape[1:-1], weight.shape[:-2], strict=True)):
        extents.append(positions(size, taps, strides[axis], dilation[axis], padding[axis]))
        if not extents[-1]:
            reach = span(taps, dilation[axis])
            raise ShapeError(
                f"{conv.name}: a filter that reaches over {reach} cells does not fit into {conv.x[1 + axis]} = {size} "
                f"with padding {padding[axis]}: {given}"
            )
    return x.like(x.shape[0], *extents, filters)


def _check_axes(name: str, **operands: tuple[Spec, tuple[str, ...]]) -> None:
    for operand, (spec, axes) in operands.items():
        if len(spec.shape) != len(axes):
            raise ShapeError(f"{name}: {operand} needs {len(axes)} axes {_axes(axes)} and has shape {spec.shape}")


def _check_dy(name: str, conv: Convolution, dy: Spec, y: Spec) -> None:
    if dy != y:
        raise ShapeError(
            f"{name}: dy {_axes(conv.y)} = {dy.shape} {dy.dtype} but {conv.name} returns {y.shape} {y.dtype}"
        )


def _flops(y: Spec, weight: tuple[int, ...]) -> int:
    return 2 * math.prod(y.shape) * math.prod(weight[:-1])


def _axes(names: tuple[str, ...]) -> str:
    return f"({', '.join(names)})"
