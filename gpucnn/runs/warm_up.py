"""Compile all that a model needs before it is needed: its kernels side by side, then one step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..devices import ahead, choose
from ..dispatch import choice
from . import step, zoo

Progress = Callable[[int, int], None]
"""Called with how many compilations are done, and how many there are."""


@dataclass(frozen=True)
class Report:
    """What was done for a model on a device: texts of CUDA C++, each with its macros, that were compiled
    side by side, and the seconds of that and of a step of training and one of inference, which compile
    the rest."""

    model: str
    device: str
    backend: str
    files: int
    compile_seconds: float
    step_seconds: float


def warm_up(model: str, progress: Progress = lambda done, total: None) -> Report:
    """Compile the kernels of a model for the device in use, with the batch size of its training."""
    device, backend = choose.current(), choice.backend()
    start, files = time.perf_counter(), 0
    if device.cc is not None:
        files = ahead.compile_ahead(lambda: step.nodes(model, f"sm_{device.cc}", backend), progress=progress)
    compiled = time.perf_counter()
    entry = zoo.find(model)
    built = step.compiled(model)
    x = np.zeros((entry.training.batch_size, *entry.input_shape), np.float32)
    built.fit(x, np.zeros(len(x), np.int64), batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    built.predict(x, batch_size=len(x), verbose=0)
    device.synchronize()
    return Report(model, device.name, backend, files, compiled - start, time.perf_counter() - compiled)
