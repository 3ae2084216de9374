"""A dense layer by BLAS; bias and ReLU follow while a part of the result is in cache."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import dense_bias_relu

from ..shared.blas_numpy import multiply


@kernel(dense_bias_relu, "blas", "numpy")
def launch(y, x, weight, b):
    """y = max(x @ weight + b, 0)."""

    def finish(part: tuple[slice, slice]) -> None:
        z = y[part]
        np.add(z, b[part[1]], out=z)
        np.maximum(z, 0, out=z)

    multiply(y, x, weight, finish)
