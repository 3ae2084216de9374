"""Convolutions over any number of axes as products with patches, for the kernels
`conv…/implicit_gemm_njit`.

    y        = patches of x · weight, with bias and activation or without
    dx       = patches of dy · weight with its taps reversed
    dweight  = transposed patches of x · dy

Each function follows the workspace that it needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices.recorders import again
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel

from .epilogue_njit import end
from .implicit_gemm_njit import (
    FLOAT32,
    NONE,
    RELU,
    Matrix,
    filters_of,
    product,
    workspace,
)
from .patches_njit import Patches, patches, transposed_patches
from .pooling_njit import NO_INDEX
from .side_by_side_njit import way_of, widened
from .tile_njit import WIDTH
from .transposed_gemm_njit import transposed_product, transposed_workspace


def register(file: str, conv: Op, conv_grad_input: Op, conv_grad_weight: Op) -> None:
    """Register the kernels of one family, whose kernel file is `file`."""
    options: dict[str, Any] = {"supports": supports, "file": file, "compiled": True}
    kernel(conv, "implicit_gemm", "njit", workspace=forward_workspace, **options)(forward)
    kernel(conv_grad_input, "implicit_gemm", "njit", workspace=grad_input_workspace, **options)(grad_input)
    kernel(conv_grad_weight, "implicit_gemm", "njit", workspace=grad_weight_workspace, **options)(grad_weight)


def ended(file: str, conv_bias_activation: Op) -> None:
    """Register the kernel of a convolution with bias and activation."""
    options: dict[str, Any] = {"supports": supports, "workspace": ended_workspace, "file": file, "compiled": True}
    kernel(conv_bias_activation, "implicit_gemm", "njit", **options)(ended_forward)


def supports(one: Spec, *_: Spec, **__: Any) -> bool:
    """Float32."""
    return one.dtype == FLOAT32


def _table(x: Any, kernel_size: Any, *, strides: Any, padding: Any, dilation: Any, groups: int) -> Patches:
    return patches(x.shape[1:-1], x.shape[-1], tuple(kernel_size), strides, padding, dilation, groups)


def forward_workspace(x: Spec, weight: Spec, *, groups: int, **window: Any) -> tuple[Spec, ...]:
    """Panels and scratch of `forward`."""
    way, table = way_of(x, weight, groups=groups, **window)
    return workspace(x.shape[0], way.shape[-1], table, groups=groups)


def forward(y: Any, x: Any, weight: Any, panels: Any, scratch: Any, *, groups: int, **window: Any) -> None:
    """y = conv(x, weight)."""
    way, table = way_of(x, weight, groups=groups, **window)
    results = y.reshape(len(y), -1, way.shape[-1])
    matrix = filters_of(widened(weight, None, way)[0], groups)
    product(results, NO_INDEX, x, matrix, None, table, NONE, panels, scratch, groups)


def ended_workspace(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool, groups: int = 1, **window: Any
) -> tuple[Spec, ...]:
    """Panels and scratch of `ended_forward`."""
    return forward_workspace(x, weight, groups=groups, **window)


def ended_forward(
    y: Any, *arrays: Any, function: str, alpha: float, keep_input: bool, groups: int = 1, **window: Any
) -> None:
    """y = f(conv(x, weight) + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b, panels, scratch) = (arrays[0] if keep_input else None), arrays[keep_input:]
    way, table = way_of(x, weight, groups=groups, **window)
    weight, b = widened(weight, b, way)
    results, kept = (a if a is None else a.reshape(len(y), -1, way.shape[-1]) for a in (y, sums))
    operands = results, NO_INDEX, x, filters_of(weight, groups), b, table
    if function == "relu" and not keep_input:
        product(*operands, RELU, panels, scratch, groups)
    else:
        product(*operands, NONE, panels, scratch, groups, sums=kept, function=end(function), alpha=alpha)


def _transposed_tables(
    dy: Any, weight: Any, *, size: Any, strides: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    kernel_size, filters = weight.shape[:-2], weight.shape[-1]
    return transposed_patches(tuple(size), dy.shape[1:-1], filters, kernel_size, strides, padding, dilation, groups)


def _turned(weight: Any, *, size: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """(shape of the turned weight, its window) for a gradient that is a convolution of dy with few filters;
    None for any other."""
    *kernel_size, channels, filters = weight.shape
    if groups != 1 or {*strides, *dilation} != {1} or 2 * channels > WIDTH:
        return None
    around = [(r - 1 - before, r - 1 - behind) for r, (before, behind) in zip(kernel_size, padding, strict=True)]
    if min(map(min, around)) < 0:
        return None
    window = {"strides": strides, "padding": tuple(around), "dilation": dilation, "groups": groups}
    return (*kernel_size, filters, channels), window


def grad_input_workspace(dy: Spec, weight: Spec, *, groups: int, **window: Any) -> tuple[Spec, ...]:
    """Panels and scratch of `grad_input`."""
    turned = _turned(weight, groups=groups, **window)
    if turned is not None:
        return forward_workspace(dy, weight.like(*turned[0]), **turned[1])
    tables = [table for table, _ in _transposed_tables(dy, weight, groups=groups, **window)]
    return workspace(dy.shape[0], weight.shape[-2] * groups, *tables, groups=groups)


def grad_input(dx: Any, dy: Any, weight: Any, panels: Any, scratch: Any, *, groups: int, **window: Any) -> None:
    """dx, one remainder of the cells by the strides after the other."""
    turned = _turned(weight, groups=groups, **window)
    if turned is not None:
        backwards = np.empty(turned[0], FLOAT32)
        again(backwards.__setitem__, ..., np.flip(weight, range(weight.ndim - 2)).swapaxes(-1, -2))
        forward(dx, dy, backwards, panels, scratch, **turned[1])
        return
    channels, filters = weight.shape[-2:]
    members = filters // groups
    starts = np.arange(weight.size // (channels * filters)).reshape(weight.shape[:-2]) * channels * filters
    for table, taps in _transposed_tables(dy, weight, groups=groups, **window):
        rows = np.add.outer(starts[np.ix_(*taps)].ravel(), np.arange(members)).ravel()
        matrix = Matrix(weight, rows, filters, members)
        product(dx, NO_INDEX, dy, matrix, None, table, NONE, panels, scratch, groups)


def grad_weight_workspace(dy: Spec, x: Spec, *, kernel_size: Any, groups: int, **window: Any) -> tuple[Spec, ...]:
    """Sums and scratch of `grad_weight`."""
    table = _table(x, kernel_size, groups=groups, **window)
    return transposed_workspace(x.shape[0], dy.shape[-1], table, groups)


def grad_weight(dweight: Any, dy: Any, x: Any, *scratch: Any, kernel_size: Any, groups: int, **window: Any) -> None:
    """dweight, summed by slices of the batch."""
    table = _table(x, kernel_size, groups=groups, **window)
    transposed_product(dweight.reshape(-1, dy.shape[-1]), dy, x, table, *scratch, groups=groups)
