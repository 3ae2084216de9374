"""Central differences: in a direction, with a bound on their error that is measured, and in one element."""

import numpy as np


def slope(function, x, direction, dy, step=1e-4):
    """(d/dt ⟨dy, function(x + t · direction)⟩ at t = 0, a bound on its error), in float64.

    The error of a central difference is a series in step²: at twice the step it is four times as large, so what the two
    differ by exceeds it. To that comes the rounding of the values, of n · eps of their size each, over the step.
    """

    def central(h):
        there, here = (np.vdot(dy, function(x + sign * h * direction)) for sign in (1, -1))
        return (there - here) / (2 * h)

    near, far = central(step), central(2 * step)
    size = np.vdot(np.abs(dy), np.abs(function(x))) + np.abs(dy).sum()
    return near, abs(far - near) + np.finfo(np.float64).eps * (16 + x.size) * size / step


def slope_at(index, array, function, dy, step=1e-5):
    """The central difference of ⟨dy, function()⟩ in one element of an array that the function reads."""
    value, there = array[index], []
    for sign in (1, -1):
        array[index] = value + sign * step
        there.append(np.vdot(dy, function()))
    array[index] = value
    return (there[0] - there[1]) / (2 * step)
