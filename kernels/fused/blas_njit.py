"""A dense layer by BLAS; bias and activation follow by vectors while a part of the result is in
cache."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import matmul_bias_activation

from ..shared import blas_numpy
from ..shared.blas_njit import finish, multiply, sgemm
from ..shared.epilogue_njit import end

_FLOAT32 = np.dtype(np.float32)


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == _FLOAT32


@kernel(matmul_bias_activation, "blas", "njit", supports=_supports, compiled=True)
def launch(y, *arrays, function, alpha, keep_input):
    """y = f(x @ weight + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b) = (arrays[0] if keep_input else y), arrays[keep_input:]
    if sgemm()[0]:
        multiply(sums, x, weight, bias=b, ended=y, function=end(function), alpha=alpha)
    else:
        blas_numpy.multiply(sums, x, weight)
        finish(sums.reshape(-1), y.reshape(-1), b, end(function), np.float32(alpha), len(y))
