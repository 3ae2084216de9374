"""x · scale + offset in one loop. Traffic: x read and y written once."""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.rescaling import rescale

from ..shared.slices_launch import in_slices


def _supports(x: Spec, **_: float) -> bool:
    return x.dtype == np.float32


@kernel(rescale, "elementwise", "njit", supports=_supports, compiled=True)
def launch(y, x, *, scale, offset):
    in_slices(_rescale, (y.reshape(-1), x.reshape(-1)), np.float64(scale), np.float64(offset))


@inner
def _rescale(y, x, scale, offset):
    for i in range(len(x)):
        y[i] = np.float64(x[i]) * scale + offset
