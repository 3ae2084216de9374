"""Convolutions over any number of axes as products with patches, for the kernels
`conv…/implicit_gemm_njit`.

    y        = patches of x · weight
    dx       = patches of dy · weight with its taps reversed
    dweight  = transposed patches of x · dy

Each function follows the workspace that it needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel

from .implicit_gemm_njit import FLOAT32, NONE, product, transposed_product, transposed_workspace, workspace
from .patches_njit import Patches, patches, transposed_patches

_NO_INDEX = np.empty(1, np.uint8)


def register(file: str, conv: Op, conv_grad_input: Op, conv_grad_weight: Op) -> None:
    """Register the kernels of one family, whose kernel file is `file`."""
    options: dict[str, Any] = {"supports": supports, "file": file}
    kernel(conv, "implicit_gemm", "njit", workspace=forward_workspace, **options)(forward)
    kernel(conv_grad_input, "implicit_gemm", "njit", workspace=grad_input_workspace, **options)(grad_input)
    kernel(conv_grad_weight, "implicit_gemm", "njit", workspace=grad_weight_workspace, **options)(grad_weight)


def supports(one: Spec, other: Spec, *, groups: int, **_: Any) -> bool:
    """Float32 without groups."""
    return groups == 1 and one.dtype == FLOAT32


def _table(x: Any, kernel_size: Any, *, strides: Any, padding: Any, dilation: Any, **_: Any) -> Patches:
    return patches(x.shape[1:-1], x.shape[-1], tuple(kernel_size), strides, padding, dilation)


def forward_workspace(x: Spec, weight: Spec, **window: Any) -> tuple[Spec, ...]:
    """Panels and scratch of `forward`."""
    return workspace(x.shape[0], weight.shape[-1], _table(x, weight.shape[:-2], **window))


def forward(y: Any, x: Any, weight: Any, panels: Any, scratch: Any, **window: Any) -> None:
    """y = conv(x, weight)."""
    table = _table(x, weight.shape[:-2], **window)
    product(y, _NO_INDEX, x, weight.reshape(-1, weight.shape[-1]), None, table, NONE, panels, scratch)


def _transposed_tables(dy: Any, weight: Any, *, size: Any, strides: Any, padding: Any, dilation: Any, **_: Any) -> Any:
    kernel_size, filters = weight.shape[:-2], weight.shape[-1]
    return transposed_patches(tuple(size), dy.shape[1:-1], filters, kernel_size, strides, padding, dilation)


def grad_input_workspace(dy: Spec, weight: Spec, **window: Any) -> tuple[Spec, ...]:
    """Panels and scratch of `grad_input`."""
    tables = [table for table, _ in _transposed_tables(dy, weight, **window)]
    return workspace(dy.shape[0], weight.shape[-2], *tables)


def grad_input(dx: Any, dy: Any, weight: Any, panels: Any, scratch: Any, **window: Any) -> None:
    """dx, one remainder of the cells by the strides after the other."""
    for table, taps in _transposed_tables(dy, weight, **window):
        filters = weight[np.ix_(*taps)].swapaxes(-1, -2).reshape(-1, weight.shape[-2])
        product(dx, _NO_INDEX, dy, filters, None, table, NONE, panels, scratch)


def grad_weight_workspace(dy: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> tuple[Spec, ...]:
    """Sums and scratch of `grad_weight`."""
    return transposed_workspace(x.shape[0], dy.shape[-1], _table(x, kernel_size, **window))


def grad_weight(dweight: Any, dy: Any, x: Any, *scratch: Any, kernel_size: Any, **window: Any) -> None:
    """dweight, summed by slices of the batch."""
    transposed_product(dweight.reshape(-1, dy.shape[-1]), dy, x, _table(x, kernel_size, **window), *scratch)
