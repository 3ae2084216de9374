"""Contrast changed at random on the CPU: one image after the other, 8 bytes for a value."""

from __future__ import annotations

import numpy as np

from gpucnn import random
from gpucnn.devices import threads
from gpucnn.devices.njit import njit
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
    factors, slices = low + (high - low) * u, threads.slices(len(x))

    def task(i: int) -> None:
        _change(y, x, mean, factors, least, most, slices[i].start, slices[i].stop)

    threads.run(task, len(slices), parallel=x.size > _SMALL)


@njit(nogil=True, cache=True, error_model="numpy")
def _change(y, x, mean, factors, least, most, first, last):
    """The images first … last - 1."""
    C = x.shape[3]
    for n in range(first, last):
        image, result, factor = x[n].reshape(-1), y[n].reshape(-1), factors[n]
        for c in range(C):
            centre = mean[n, c]
            for i in range(c, image.shape[0], C):
                result[i] = min(max((image[i] - centre) * factor + centre, least), most)
