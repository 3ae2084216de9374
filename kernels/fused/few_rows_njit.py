"""A dense layer on a few images: the product by vectors, then the activation of each part."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import matmul_bias_activation

from ..shared.epilogue_njit import end
from ..shared.few_rows_njit import MOST_ROWS, multiply


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == np.float32


def _pays(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.shape[0] <= MOST_ROWS


@kernel(matmul_bias_activation, "few_rows", "njit", supports=_supports, pays=_pays, compiled=True)
def launch(y, *arrays, function, alpha, keep_input):
    """y = f(x @ weight + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b) = (arrays[0] if keep_input else y), arrays[keep_input:]
    multiply(sums, x, weight, b, y, end(function), alpha)
