"""NumPy's BLAS without Python: compiled code calls it, and its threads are those of all kernels."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.blas_njit import multiply, sgemm


def _supports(a: Spec, b: Spec, **_: bool) -> bool:
    return a.dtype == np.float32 and sgemm()[0] != 0


@kernel(matmul, "blas", "njit", supports=_supports, compiled=True)
def launch(y, a, b, *, transpose_a, transpose_b):
    """y = a @ b."""
    multiply(y, a, b, transpose_a, transpose_b)
