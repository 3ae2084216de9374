"""Compile all that a model needs before it is needed: its kernels side by side, then one step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np

from ..devices import choose
from ..devices.cuda import CudaFunction
from ..devices.device import Device
from ..dispatch import choice
from . import step, zoo

Progress = Callable[[int, int], None]
"""Called with how many files are compiled, and how many there are."""


@dataclass(frozen=True)
class Report:
    """What was done for a model on a device: files of CUDA C++, each with its macros, that were compiled
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
    start = time.perf_counter()
    functions = [] if device.cc is None else _functions(model, device, backend)
    with ThreadPoolExecutor(os.cpu_count(), initializer=device.activate) as pool:
        under_way = [pool.submit(device.prepare_cuda, function) for function in functions]
        for done, one in enumerate(as_completed(under_way), 1):
            one.result()
            progress(done, len(functions))
    compiled = time.perf_counter()
    entry = zoo.find(model)
    built = step.compiled(model)
    x = np.zeros((entry.training.batch_size, *entry.input_shape), np.float32)
    built.fit(x, np.zeros(len(x), np.int64), batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    built.predict(x, batch_size=len(x), verbose=0)
    device.synchronize()
    return Report(model, device.name, backend, len(functions), compiled - start, time.perf_counter() - compiled)


def _functions(model: str, device: Device, backend: str) -> list[CudaFunction]:
    """One kernel of each file and macros that a step launches kernels of, or all kernels, as they are compiled."""
    launched = (getattr(node, "function", None) for node in step.nodes(model, f"sm_{device.cc}", backend))
    return list({device.compiled_together(f): f for f in launched if isinstance(f, CudaFunction)}.values())
