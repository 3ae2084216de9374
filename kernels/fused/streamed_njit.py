"""A dense layer whose weights are read once, where they lie, by tiles that stay in registers."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import matmul_bias_activation

from ..shared.epilogue_njit import end
from ..shared.streamed_njit import multiply, pays, supports, workspace_of


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == np.float32 and supports(x.shape[0], weight.shape[1])


def _pays(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return pays(x.shape[0], *weight.shape)


def _workspace(x: Spec, weight: Spec, b: Spec, **_: object) -> Spec:
    return workspace_of(weight.shape[1])


@kernel(matmul_bias_activation, "streamed", "njit", supports=_supports, pays=_pays, workspace=_workspace, compiled=True)
def launch(y, *arrays, function, alpha, keep_input):
    """y = f(x @ weight + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b, blocks) = (arrays[0] if keep_input else y), arrays[keep_input:]
    multiply(sums, x, weight, blocks, b, y, end(function), alpha)
