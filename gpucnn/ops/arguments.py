"""Checks of operands and parameters that several ops share."""

from __future__ import annotations

import numpy as np

from ..dispatch.case import Spec
from ..errors import ArgumentError, ShapeError


def check_counter(op: str, operand: str, spec: Spec) -> None:
    """Raise unless the operand is an int64 array of one element."""
    if spec.shape != (1,) or spec.dtype != np.int64:
        raise ShapeError(f"{op}: {operand} is an int64 array of one element, not {spec.shape} {spec.dtype}")


def check_seed(op: str, seed: int) -> None:
    """Raise unless the seed fits into 64 bits."""
    if not 0 <= seed < 2**64:
        raise ArgumentError(f"{op}: seed={seed} is out of range: use an integer of 0 … 2**64 - 1")
