"""Contrast changed at random on the CPU: one image after the other, 8 bytes for a value."""

from __future__ import annotations

import numpy as np

from gpucnn import random
from gpucnn.devices import threads
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.contrast import random_contrast

_SMALL = 1 << 15
"""Below this many values a second thread costs more than it brings."""


def _supports(x: Spec, *_: Spec, **__: object) -> bool:
    return x.dtype == np.float32


@kernel(random_contrast, "elementwise", "njit", supports=_supports)
def launch(y, x, mean, step, *, factor, limits, seed, stream, counter=0):
    key = {"seed": seed, "step": int(step[0]), "stream": stream, "purpose": random.AUGMENT}
    u = random.uniform(len(x), **key, counter=counter)
    low, high, least, most = map(np.float32, (*factor, *limits))
    factors, bounds = low + (high - low) * u, threads.bounds(len(x))
    _change(len(bounds) - 1, y, x, mean, factors, least, most, bounds, parallel=x.size > _SMALL)


@tasks
def _change(part, y, x, mean, factors, least, most, bounds):
    """A slice of the images."""
    C = x.shape[3]
    for n in range(bounds[part], bounds[part + 1]):
        image, result, factor = x[n].reshape(-1), y[n].reshape(-1), factors[n]
        for c in range(C):
            centre = mean[n, c]
            for i in range(c, image.shape[0], C):
                result[i] = min(max((image[i] - centre) * factor + centre, least), most)
