"""A product of some rows with a matrix that is read once, where it lies, by tiles that stay in registers; the second
matrix may be transposed."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.streamed_njit import multiply, pays, supports, workspace_of


def _supports(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> bool:
    return a.dtype == np.float32 and not transpose_a and supports(a.shape[0], b.shape[0 if transpose_b else 1])


def _pays(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> bool:
    return pays(*a.shape, b.shape[0 if transpose_b else 1])


def _workspace(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> Spec:
    return workspace_of(b.shape[0 if transpose_b else 1])


@kernel(matmul, "streamed", "njit", supports=_supports, pays=_pays, workspace=_workspace, compiled=True)
def launch(y, a, b, blocks, *, transpose_a, transpose_b):
    """y = a @ b."""
    multiply(y, a, b, blocks, transposed=transpose_b)
