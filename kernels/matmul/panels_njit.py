"""A product by tiles that stay in registers, from panels as wide as a tile; either matrix may be transposed."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.panels_njit import multiply, multiply_transposed, pays, workspace_of


def _supports(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> bool:
    return a.dtype == np.float32 and not (transpose_a and transpose_b)


def _pays(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> bool:
    rows, terms = reversed(a.shape) if transpose_a else a.shape
    return pays(rows, terms, b.shape[0 if transpose_b else 1])


def _workspace(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> tuple[Spec, ...]:
    return workspace_of(a, b.shape[0 if transpose_b else 1], transpose_a)


@kernel(matmul, "panels", "njit", supports=_supports, pays=_pays, workspace=_workspace, compiled=True)
def launch(y, a, b, *scratch, transpose_a, transpose_b):
    """y = a @ b."""
    if transpose_a:
        multiply_transposed(y, a, b, *scratch)
    else:
        multiply(y, a, b, *scratch, transpose_b=transpose_b)
