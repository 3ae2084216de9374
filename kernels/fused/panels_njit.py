"""A dense layer by tiles that stay in registers; bias and activation follow while a block is in the
first-level cache."""

from __future__ import annotations

import numpy as np

from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import matmul_bias_activation

from ..shared.epilogue_njit import end
from ..shared.panels_njit import multiply, pays, workspace_of


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == np.float32


def _pays(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return pays(x.shape[0], *weight.shape)


def _workspace(x: Spec, weight: Spec, b: Spec, **_: object) -> tuple[Spec, Spec]:
    return workspace_of(x, weight.shape[1])


@kernel(matmul_bias_activation, "panels", "njit", supports=_supports, pays=_pays, workspace=_workspace, compiled=True)
def launch(y, *arrays, function, alpha, keep_input):
    """y = f(x @ weight + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b, panels, scratch) = (arrays[0] if keep_input else None), arrays[keep_input:]
    if function == "relu" and not keep_input:
        multiply(y, x, weight, panels, scratch, b, relu=True)
    else:
        multiply(y, x, weight, panels, scratch, b, sums=sums, function=end(function), alpha=alpha)
