"""A product of few rows, whose matrix is read once and not packed."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.few_rows_njit import MOST_ROWS, multiply


def _supports(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> bool:
    return a.dtype == np.float32 and not (transpose_a or transpose_b)


def _pays(a: Spec, b: Spec, **_: bool) -> bool:
    return a.shape[0] <= MOST_ROWS


@kernel(matmul, "few_rows", "njit", supports=_supports, pays=_pays, compiled=True)
def launch(y, a, b, **_):
    """y = a @ b."""
    multiply(y, a, b)
