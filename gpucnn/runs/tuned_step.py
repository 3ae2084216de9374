"""The kernels of a training step, measured."""

from __future__ import annotations

import numpy as np

from ..devices import choose
from ..dispatch.precision import Precision
from ..profiling import tuning
from . import step, zoo


def decisions(model: str, batch_size: int | None = None, precision: Precision = "float32") -> list[tuning.Decision]:
    """What is decided about the calls of a training step of a model of the zoo, with the device and the
    `tune` in use. Calls that one kernel alone serves are left out."""
    entry = zoo.find(model)
    size = batch_size or entry.training.batch_size
    built = step.compiled(model, precision=precision)
    random = np.random.default_rng(0)
    x = random.random((size, *entry.input_shape), np.float32)
    tuning.decisions.clear()
    built.fit(x, random.integers(0, entry.classes, size), batch_size=size, epochs=1, shuffle=False, verbose=0)
    choose.current().synchronize()
    return list(tuning.decisions.values())
