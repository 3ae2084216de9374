"""Calls of functions by the host, for each launch of a kernel and each step of training.

gpucnn emulate-gpu python bench/host_calls.py     # the part "now" of bench/results/host_calls.json

Python calls are functions written in Python, C calls all others. A step launched one by one costs
what its launches cost; a replayed one costs the same for every model.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import gpucnn
from gpucnn.devices import storage
from gpucnn.profiling import trials
from gpucnn.runs import zoo

MODELS = ("slides", "keras-intro")
STEPS = {"replayed": 32, "one by one": 2}
"""Steps whose calls are counted."""


def calls(run: Callable[[], object]) -> np.ndarray:
    """(Python calls, C calls) of `run`."""
    counts = {"call": 0, "c_call": -1}  # the call that ends the count

    def count(frame: Any, event: str, argument: Any) -> None:
        if event in counts:
            counts[event] += 1

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return np.array(list(counts.values()))


def of_launch(backend: str) -> np.ndarray:
    """The calls of one launch: the naive matrix product."""
    (kernel,) = (k for k in trials.every_kernel(f"matmul/naive_{backend}") if k.op.name == "matmul")
    arrays = [storage.put(np.ones((8, 8), np.float32)) for _ in range(3)]

    def launch() -> None:
        kernel.launch(*arrays, transpose_a=False, transpose_b=False)

    launch()
    return calls(launch)


def of_step(name: str, steps: int) -> np.ndarray:
    """The calls of a step of training a model of the zoo: of twice as many steps, less those of
    `steps`."""
    fits = []
    for count in (steps, steps, 2 * steps):  # the first compiles
        model = zoo.find(name).build()
        model.compile("sgd", "sparse_categorical_crossentropy")
        x = np.zeros((2 * count, *model.input_shape[1:]), np.float32)
        y = np.zeros(len(x), np.int64)
        fits.append(calls(lambda model=model, x=x, y=y: model.fit(x, y, batch_size=2, shuffle=False, verbose=0)))
    return (fits[2] - fits[1]) / steps


def table() -> dict[str, dict[str, float]]:
    """Python and C calls, by what is counted."""
    counts = {}
    for backend in ("cuda", "numba"):
        gpucnn.use(backend, device="gpu")
        counts[f"launch, {backend}"] = of_launch(backend)
    gpucnn.use("cuda", device="gpu")
    for name in MODELS:
        for how, steps in STEPS.items():
            os.environ["GPUCNN_GRAPH"] = str(int(how == "replayed"))
            counts[f"step of {name}, {how}"] = of_step(name, steps)
    return {what: dict(zip(("python", "c"), map(float, pair.round(1)), strict=True)) for what, pair in counts.items()}


if __name__ == "__main__":
    print(json.dumps(table(), indent=1))
