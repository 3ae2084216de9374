"""What convolutions over two and three axes and their gradients have in common as ops: shape rules,
counts of work, cases, and the algorithms to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..dispatch.case import Case, Spec, real
from ..dispatch.op import Op, op
from ..errors import ArgumentError, ShapeError
from .window import Pads, positions, span

PREFER = ("halo", "tensor", "winograd", "channelwise", "implicit_gemm", "im2col", "direct")
"""The order in which "auto" tries the algorithms."""


class Axes(NamedTuple):
    """The names of a convolution op and of its arrays' axes, for messages."""

    op: str
    x: tuple[str, ...]
    weight: tuple[str, ...]
    y: tuple[str, ...]


class Setting(NamedTuple):
    """Shapes of x, weight and y, and the window: a case of each of the three ops."""

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    window: dict[str, Any]
    bench: bool


def setting(
    name: str,
    *,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    padding: Pads | None = None,
    dilation: tuple[int, ...] | None = None,
    groups: int = 1,
    bench: bool = False,
) -> Setting:
    """The setting of x (N, …, C) and weight (…, C / groups, K); by default without padding."""
    size, kernel_size = x[1:-1], weight[:-2]
    ones = (1,) * len(size)
    strides, dilation, padding = strides or ones, dilation or ones, padding or ((0, 0),) * len(size)
    y = (x[0], *map(positions, size, kernel_size, strides, dilation, padding), weight[-1])
    window = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return Setting(name, x, weight, y, window, bench)


def convolution(axes: Axes, settings: Sequence[Setting]) -> Callable[[Callable], Op]:
    """Turn a body y = f(x, weight) into an op."""
    return op(
        outputs=lambda x, weight, **window: output(axes, x, weight, **window),
        flops=lambda x, weight, **window: _flops(output(axes, x, weight, **window), weight.shape),
        terms=lambda x, weight, **_: math.prod(weight.shape[:-1]),
        cases=[Case(s.name, (real(*s.x), real(*s.weight)), s.window, s.bench) for s in settings],
        prefer=PREFER,
        factors=(0, 1),
    )


def grad_input_of(conv: Op, axes: Axes, settings: Sequence[Setting]) -> Callable[[Callable], Op]:
    """Turn a body dx = f(dy, weight, size) into the op of the gradient with respect to x."""
    return op(
        gradient_of=conv,
        outputs=lambda dy, weight, **window: output_of_grad_input(axes, dy, weight, **window),
        flops=lambda dy, weight, **_: _flops(dy, weight.shape),
        terms=lambda dy, weight, groups, **_: math.prod(weight.shape[:-2]) * weight.shape[-1] // groups,
        cases=[Case(s.name, (real(*s.y), real(*s.weight)), {"size": s.x[1:-1], **s.window}, s.bench) for s in settings],
        prefer=PREFER,
        factors=(0, 1),
    )


def grad_weight_of(conv: Op, axes: Axes, settings: Sequence[Setting]) -> Callable[[Callable], Op]:
    """Turn a body dweight = f(dy, x, kernel_size) into the op of the gradient with respect to
    weight."""
    return op(
        gradient_of=conv,
        outputs=lambda dy, x, **window: output_of_grad_weight(axes, dy, x, **window),
        flops=lambda dy, x, kernel_size, groups, **_: _flops(dy, (*kernel_size, x.shape[-1] // groups, dy.shape[-1])),
        terms=lambda dy, x, **_: math.prod(dy.shape[:-1]),
        cases=[
            Case(s.name, (real(*s.y), real(*s.x)), {"kernel_size": s.weight[:-2], **s.window}, s.bench)
            for s in settings
        ],
        prefer=PREFER,
        factors=(0, 1),
    )


def output_of_grad_input(
    axes: Axes, dy: Spec, weight: Spec, *, size: tuple[int, ...], groups: int, **window: Any
) -> Spec:
    """The `Spec` of dx, from those of dy and weight. Raises `ShapeError` if they do not fit."""
    name = f"{axes.op}_grad_input"
    _check_axes(name, dy=(dy, axes.y), weight=(weight, axes.weight))
    x = dy.like(dy.shape[0], *size, weight.shape[-2] * groups)
    _check_dy(name, axes, dy, output(axes, x, weight, groups=groups, **window))
    return x


def output_of_grad_weight(
    axes: Axes, dy: Spec, x: Spec, *, kernel_size: tuple[int, ...], groups: int, **window: Any
) -> Spec:
    """The `Spec` of dweight, from those of dy and x. Raises `ShapeError` if they do not fit."""
    name = f"{axes.op}_grad_weight"
    _check_axes(name, dy=(dy, axes.y), x=(x, axes.x))
    weight = x.like(*kernel_size, x.shape[-1] // groups, dy.shape[-1])
    _check_dy(name, axes, dy, output(axes, x, weight, groups=groups, **window))
    return weight


def output(
    axes: Axes,
    x: Spec,
    weight: Spec,
    *,
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    groups: int,
) -> Spec:
    """The `Spec` of y, from those of x and weight. Raises `ShapeError` if they do not fit."""
    _check_axes(axes.op, x=(x, axes.x), weight=(weight, axes.weight))
    shapes = f"x {_listed(axes.x)} = {x.shape}, weight {_listed(axes.weight)} = {weight.shape}"
    if x.dtype != weight.dtype:
        raise ArgumentError(f"{axes.op}: x is {x.dtype} but weight is {weight.dtype}: convert one to the other's dtype")
    channels, filters = weight.shape[-2:]
    if x.shape[-1] != channels * groups:
        has = f"{x.shape[-1]} channel" + "s" * (x.shape[-1] != 1)
        split = f" ({groups} groups of {channels})" if groups > 1 else ""
        raise ShapeError(f"{axes.op}: x has {has} but weight expects {channels * groups}{split}: {shapes}")
    if filters % groups:
        raise ShapeError(f"{axes.op}: {filters} filters cannot be split into {groups} groups: {shapes}")
    extents = []
    for axis, (size, taps) in enumerate(zip(x.shape[1:-1], weight.shape[:-2], strict=True)):
        extents.append(positions(size, taps, strides[axis], dilation[axis], padding[axis]))
        if not extents[-1]:
            reach = span(taps, dilation[axis])
            raise ShapeError(
                f"{axes.op}: a filter that reaches over {reach} cells does not fit into {axes.x[1 + axis]} = {size} "
                f"with padding {padding[axis]}: {shapes}"
            )
    return x.like(x.shape[0], *extents, filters)


def _check_axes(name: str, **operands: tuple[Spec, tuple[str, ...]]) -> None:
    for operand, (spec, axes) in operands.items():
        if len(spec.shape) != len(axes):
            raise ShapeError(f"{name}: {operand} needs {len(axes)} axes {_listed(axes)} and has shape {spec.shape}")


def _check_dy(name: str, axes: Axes, dy: Spec, y: Spec) -> None:
    if dy != y:
        raise ShapeError(
            f"{name}: dy {_listed(axes.y)} = {dy.shape} {dy.dtype} but {axes.op} returns {y.shape} {y.dtype}"
        )


def _flops(y: Spec, weight: tuple[int, ...]) -> int:
    """Multiplications and additions of a convolution with result y and a weight of this shape."""
    return 2 * math.prod(y.shape) * math.prod(weight[:-1])


def _listed(names: tuple[str, ...]) -> str:
    return f"({', '.join(names)})"
