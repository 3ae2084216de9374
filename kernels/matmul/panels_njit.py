"""A product by tiles that stay in registers, from panels as wide as a tile."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.panels_njit import multiply, pays, workspace_of


def _supports(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> bool:
    return a.dtype == np.float32 and not (transpose_a or transpose_b)


def _pays(a: Spec, b: Spec, **_: bool) -> bool:
    return pays(a, b)


def _workspace(a: Spec, b: Spec, **_: bool) -> tuple[Spec, Spec]:
    return workspace_of(a, b)


@kernel(matmul, "panels", "njit", supports=_supports, pays=_pays, workspace=_workspace, compiled=True)
def launch(y, a, b, panels, scratch, **_):
    """y = a @ b."""
    multiply(y, a, b, panels, scratch)
