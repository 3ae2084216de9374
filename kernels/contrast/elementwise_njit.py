"""Contrast changed at random on the CPU: one image after the other, 8 bytes for a value."""

from __future__ import annotations

import numpy as np

from gpucnn import random
from gpucnn.devices import threads
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.contrast import random_contrast

from ..shared.philox_njit import key_now, share, words

_SMALL = 1 << 15
"""Below this many values a second thread costs more than it brings."""


def _supports(x: Spec, *_: Spec, **__: object) -> bool:
    return x.dtype == np.float32


@kernel(random_contrast, "elementwise", "njit", supports=_supports, compiled=True)
def launch(y, x, mean, step, *, factor, limits, seed, stream, counter=0):
    key, bounds = key_now(step, stream, random.AUGMENT, seed), threads.bounds(len(x))
    low, high, least, most = map(np.float32, (*factor, *limits))
    _change(len(bounds) - 1, y, x, mean, key, counter, low, high - low, least, most, bounds, parallel=x.size > _SMALL)


@tasks
def _change(part, y, x, mean, key, counter, low, width, least, most, bounds):
    """A slice of the images."""
    C = x.shape[3]
    for n in range(bounds[part], bounds[part + 1]):
        image, result = x[n].reshape(-1), y[n].reshape(-1)
        factor = low + width * share(words(counter + n // 4, key)[n % 4])
        for c in range(C):
            centre = mean[n, c]
            for i in range(c, image.shape[0], C):
                result[i] = min(max((image[i] - centre) * factor + centre, least), most)
