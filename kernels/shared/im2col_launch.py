"""The launches of `conv2d/im2col_cuda` and `conv3d/im2col_cuda`, whose kernels are
`im2col_cuda.cu`.

    y        = columns · weight                           with  columns = im2col(x)
    dcolumns = dy · weightᵀ                               then  dx = col2im(dcolumns)
    dweight  = columnsᵀ · dy

The columns are about as many times larger than x as the filter has taps. So a batch is processed in
slices of images whose columns stay within COLUMNS. Each slice of dweight adds to the sum of those
before it, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel
from gpucnn.ops.window import positions

from .gemm_launch import FLOAT32, LARGE, Plan, join, product_plan

THREADS = 256

COLUMNS = 1 << 23
"""Values of the columns at a time, 32 MiB: they are read soon after they are written, best while in
the L2 cache. A single image may need more."""

TOO_LARGE = 1 << 31
"""Kernels count elements in 32 bits."""

GROUPS = 65535
"""The extent of a grid along z."""


def supports(one: Spec, other: Spec, *, groups: int, **_: Any) -> bool:
    """Float32, groups of several channels, and no single image whose columns are too many. For y
    and dx."""
    taps = prod(other.shape[:-1])
    image = prod(one.shape[1:-1]) * taps * groups
    return one.dtype == FLOAT32 and groups <= GROUPS and (groups == 1 or other.shape[-2] > 1) and image < TOO_LARGE


def supports_grad_weight(dy: Spec, x: Spec, *, kernel_size: tuple[int, ...], groups: int, **_: Any) -> bool:
    """The same for dweight."""
    image = prod(dy.shape[1:-1]) * prod(kernel_size) * x.shape[-1]
    return dy.dtype == FLOAT32 and groups <= GROUPS and (groups == 1 or x.shape[-1] > groups) and image < TOO_LARGE


def images_at_a_time(images: int, pixels: int, values: int) -> int:
    """How many images make a slice: each has `pixels` windows of `values` values, over all
    groups."""
    return min(images, max(1, COLUMNS // (pixels * values)))


def _slices(images: int, at_a_time: int) -> Iterator[tuple[int, int]]:
    for start in range(0, images, at_a_time):
        yield start, min(start + at_a_time, images)


def _three(values: Any, missing: Any) -> tuple:
    return (missing,) * (3 - len(values)) + tuple(values)


def _outputs(x: tuple[int, ...], taps: tuple[int, ...], strides: Any, padding: Any, dilation: Any) -> list[int]:
    return list(map(positions, x[1:-1], taps, strides, dilation, padding))


def workspace(x: Spec, weight: Spec, *, strides: Any, padding: Any, dilation: Any, groups: int) -> tuple[Spec, ...]:
    """The columns of a slice, and the parts of its y if the sums are cut."""
    taps, filters = prod(weight.shape[:-1]), weight.shape[-1]
    pixels = prod(_outputs(x.shape, weight.shape[:-2], strides, padding, dilation))
    images = images_at_a_time(x.shape[0], pixels, taps * groups)
    plan = product_plan(images * pixels, filters // groups, taps, groups=groups)
    return Spec((images * pixels * taps * groups,), FLOAT32), *plan.workspace(images * pixels * filters)


def workspace_grad_input(dy: Spec, weight: Spec, *, groups: int, **_: Any) -> Spec:
    """The columns of a slice."""
    values, pixels = prod(weight.shape[:-1]) * groups, prod(dy.shape[1:-1])
    return Spec((images_at_a_time(dy.shape[0], pixels, values) * pixels * values,), FLOAT32)


def workspace_grad_weight(dy: Spec, x: Spec, *, kernel_size: Any, groups: int, **_: Any) -> tuple[Spec, ...]:
    """The columns of a slice, and the parts of dweight if the sums are cut."""
    values, pixels, filters = prod(kernel_size) * x.shape[-1], prod(dy.shape[1:-1]), dy.shape[-1]
    images = images_at_a_time(dy.shape[0], pixels, values)
    plan = product_plan(values // groups, filters // groups, images * pixels, groups=groups)
    return Spec((images * pixels * values,), FLOAT32), *plan.workspace(values // groups * filters)


_NAMES = "im2col", "col2im", "y_of_columns", "dcolumns_of_dy", "dweight_of_columns", "sum_parts"
_SOURCE = Path(__file__).with_name("im2col_cuda.cu")
_FUNCTIONS = {name: cuda_function(_SOURCE, name, **LARGE._asdict()) for name in _NAMES}


def register(file: str, conv: Op, conv_grad_input: Op, conv_grad_weight: Op) -> None:
    """Register the kernels of one family, whose kernel file is `file`."""
    for op, launch, supported, scratch in (
        (conv, forward, supports, workspace),
        (conv_grad_input, grad_input, supports, workspace_grad_input),
        (conv_grad_weight, grad_weight, supports_grad_weight, workspace_grad_weight),
    ):
        kernel(op, "im2col", "cuda", supports=supported, workspace=scratch, file=file)(launch)


def forward(y: Any, x: Any, weight: Any, columns: Any, parts: Any = None, *, groups: int, **window: Any) -> None:
    """y = columns · weight."""
    taps, filters = prod(weight.shape[:-1]), y.shape[-1]
    pixels = prod(y.shape[1:-1])
    images = images_at_a_time(len(x), pixels, taps * groups)
    plan = product_plan(images * pixels, filters // groups, taps, groups=groups)
    for start, stop in _slices(len(x), images):
        some = y[start:stop]
        count = (stop - start) * pixels
        _gather(plan, "im2col", columns, x[start:stop], some.shape, weight.shape[:-2], groups, **window)
        _launch(plan, "y_of_columns", groups)(
            some if parts is None else parts, columns, weight, count, taps, filters // groups, filters, plan.length
        )
        _join(plan, some, parts)


def grad_input(dx: Any, dy: Any, weight: Any, columns: Any, *, groups: int, **window: Any) -> None:
    """dx = col2im of dy · weightᵀ; the sums are as short as there are filters, so they are never
    cut."""
    taps, filters = prod(weight.shape[:-1]), dy.shape[-1]
    pixels = prod(dy.shape[1:-1])
    images = images_at_a_time(len(dx), pixels, taps * groups)
    plan = product_plan(images * pixels, taps, filters // groups, groups=groups)._replace(parts=1)
    for start, stop in _slices(len(dx), images):
        some = dy[start:stop]
        count = (stop - start) * pixels
        _launch(plan, "dcolumns_of_dy", groups)(columns, some, weight, count, taps, filters // groups, filters)
        _gather(plan, "col2im", columns, dx[start:stop], some.shape, weight.shape[:-2], groups, **window)


def grad_weight(
    dweight: Any, dy: Any, x: Any, columns: Any, parts: Any = None, *, kernel_size: Any, groups: int, **window: Any
) -> None:
    """dweight = columnsᵀ · dy, the sum of the slices in order."""
    taps, filters = prod(dweight.shape[:-1]), dy.shape[-1]
    pixels = prod(dy.shape[1:-1])
    images = images_at_a_time(len(x), pixels, taps * groups)
    plan = product_plan(taps, filters // groups, images * pixels, groups=groups)
    for start, stop in _slices(len(x), images):
        some = dy[start:stop]
        count = (stop - start) * pixels
        _gather(plan, "im2col", columns, x[start:stop], some.shape, kernel_size, groups, **window)
        _launch(plan, "dweight_of_columns", groups)(
            dweight if parts is None else parts, columns, some, count, taps, filters // groups, filters,
            plan.length, start > 0,
        )  # fmt: skip
    _join(plan, dweight, parts)


def _launch(plan: Plan, name: str, groups: int) -> Any:
    return _FUNCTIONS[name].define(**plan.macros_with_more_registers())[plan.grid(groups), plan.tile.THREADS]


def _join(plan: Plan, result: Any, parts: Any) -> None:
    join(_FUNCTIONS["sum_parts"].define(**plan.macros_with_more_registers()), plan, result, parts)


def _gather(
    plan: Plan, name: str, columns: Any, x: Any, y: Any, taps: Any, groups: int,
    *, strides: Any, padding: Any, dilation: Any, size: Any = None,
) -> None:  # fmt: skip
    """im2col: columns from x; col2im: x from columns. One thread for a value or for four
    channels."""
    N, C = x.shape[0], x.shape[-1]
    channels = C // groups
    quads = channels % 4 == 0
    values = N * prod(y[1:-1]) * prod(taps) * C if name == "im2col" else x.size
    threads = values // 4 if quads else values
    arrays = (columns, x) if name == "im2col" else (x, columns)
    before = [before for before, _ in padding]
    _FUNCTIONS[name].define(**plan.macros_with_more_registers())[blocks_1d(threads, THREADS), THREADS](
        *arrays, threads, N, *_three(x.shape[1:-1], 1), C, *_three(y[1:-1], 1), *_three(taps, 1), channels,
        *_three(strides, 1), *_three(before, 0), *_three(dilation, 1), quads,
    )  # fmt: skip
