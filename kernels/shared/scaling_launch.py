"""A float64 factor as two float32 numbers, for kernels that must round a product only once."""

import numpy as np


def halves(factor: float) -> tuple[float, float]:
    """(high, low): high + low is the factor to about 48 bits."""
    high = float(np.float32(factor))
    return high, factor - high
