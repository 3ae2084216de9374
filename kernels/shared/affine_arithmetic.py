"""The integers of random maps, as the kernels of the CPU and those in numba.cuda compute them: plain
functions, which each of them compiles."""

import numpy as np

from gpucnn.ops.affine import PIXEL, SINE

QUARTER = 1 << 30
"""A quarter of a turn."""

_SINE_0, _SINE_1, _SINE_2, _SINE_3, _SINE_4 = SINE


def between(word, low, width):
    """low + width · word / 2³²."""
    return low + ((np.int64(word) >> 4) * width >> 28)


def sine(phase):
    """The sine of phase / 2³² turns in units of 2⁻³⁰: a polynomial in each quarter."""
    rest = phase & (QUARTER - 1)
    t = QUARTER - rest if phase >> 30 & 1 else rest
    square = t * t >> 30
    value = (_SINE_4 * square >> 30) + _SINE_3
    value = (value * square >> 30) + _SINE_2
    value = (value * square >> 30) + _SINE_1
    value = ((value * square >> 30) + _SINE_0) * t >> 30
    return -value if phase >> 31 & 1 else value


def product(factor, scale):
    """factor in units of 2⁻³⁰ times scale, rounded."""
    return (factor * scale + (1 << 29)) >> 30


def start(along, across, cut, shift, side, cut_side, P, Q):
    """Where coordinate 0 of the output lies along one axis of the input."""
    room = max(side - cut_side, 0)
    cut_off = ((np.int64(cut) >> 1) * (room + 1) >> 31) * PIXEL - (room * PIXEL >> 1)
    middle = (side - 1) * PIXEL >> 1
    return middle - (along * (P - 1) + across * (Q - 1) >> 1) + cut_off - shift * side
