"""The library that NumPy brings (OpenBLAS, Accelerate or MKL), on all threads by parts of the
result.

Each part is one call on one BLAS thread, so that the bits do not depend on how many threads there
are.
"""

from __future__ import annotations

from gpucnn.dispatch import precision
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

from ..shared.blas_numpy import multiply


@kernel(matmul, "blas", "numpy", precisions=precision.PRECISIONS)
def launch(y, a, b, *, transpose_a, transpose_b):
    """y = a @ b, of factors in the precision in force; a transposed matrix is a view."""
    a, b = (precision.rounded(factor, precision.in_force()) for factor in (a, b))
    multiply(y, a.T if transpose_a else a, b.T if transpose_b else b)
