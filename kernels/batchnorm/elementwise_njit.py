"""The moving statistics, updated in place in one loop."""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import inner
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import moving_average

from ..shared.slices_launch import in_slices


def _supports(moving: Spec, batch: Spec, *, momentum: float) -> bool:
    return moving.dtype == np.float32


@kernel(moving_average, "elementwise", "njit", supports=_supports, compiled=True)
def launch(moving, batch, *, momentum):
    in_slices(_move, (moving.reshape(-1), batch.reshape(-1)), *map(np.float32, (momentum, 1 - momentum)))


@inner
def _move(moving, batch, keep, take):
    for i in range(len(moving)):
        moving[i] = moving[i] * keep + batch[i] * take
