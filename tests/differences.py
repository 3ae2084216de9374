"""Central differences, with a bound on their error that is measured and not guessed."""

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
