"""A value cut to a range, in which a NaN stays a NaN."""

from gpucnn.devices.numba_cuda import numba_device


@numba_device
def clamp(x, low, high):
    """x cut to low … high."""
    if x < low:
        return low
    return high if x > high else x  # a NaN fails both comparisons and is passed on
