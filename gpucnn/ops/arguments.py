"""Checks of operands that several ops share."""

from __future__ import annotations

import numpy as np

from ..dispatch.case import Spec
from ..errors import ShapeError


def check_counter(op: str, operand: str, spec: Spec) -> None:
    """Raise unless the operand is an int64 array of one element."""
    if spec.shape != (1,) or spec.dtype != np.int64:
        raise ShapeError(f"{op}: {operand} is an int64 array of one element, not {spec.shape} {spec.dtype}")
