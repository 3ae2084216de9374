"""Checks of arguments that several optimizers share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError


def check_range(owner: str, name: str, value: Any, low: float, high: float) -> None:
    """Raise unless the value is a finite number between `low` and `high`, both included."""
    if not (low <= value <= high and value < math.inf):
        bounds = f"lie in {low:g} … {high:g}" if high < math.inf else f"be a finite number, {low:g} or above"
        raise ArgumentError(f"{owner}: {name}={value} must {bounds}")


def check_moments(owner: str, beta_1: float, beta_2: float, epsilon: float) -> None:
    """Raise unless both decay rates and `epsilon` are valid for Adam and its relatives."""
    for name, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
        if not 0 <= beta < 1:
            raise ArgumentError(f"{owner}: {name}={beta} must be at least 0 and below 1")
    check_epsilon(owner, epsilon)


def check_epsilon(owner: str, epsilon: float) -> None:
    """Raise unless `epsilon` is above 0, in float32 too."""
    if not 0 < np.float32(epsilon) < math.inf:
        raise ArgumentError(f"{owner}: epsilon={epsilon} must be above 0, or a gradient of 0 gives 0 / 0")


def check_count(owner: str, name: str, value: Any, least: int) -> None:
    """Raise unless the value is None or an integer of at least `least`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least):
        raise ArgumentError(f"{owner}: {name}={value!r} must be an integer of {least} or more, or None")


def check_above_zero(owner: str, name: str, value: float) -> None:
    """Raise unless the value is above 0."""
    if not value > 0:
        raise ArgumentError(f"{owner}: {name}={value} must be above 0")
