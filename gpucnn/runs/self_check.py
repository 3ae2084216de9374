"""Whether the GPU of this machine can be trusted: a check of a few seconds, whose verdict is kept.

It compares the kernels that training needs with their definitions, on small cases, and a short
training with the same one on the CPU. The verdict holds for this GPU, driver, versions and kernel
sources; any change of these asks for a new check.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from .. import layers, optimizers, places, utils
from ..devices import ahead, choose
from ..dispatch import choice
from ..dispatch.op import Kernel
from ..errors import KernelError, warn
from ..files import write_atomically
from ..models.sequential import Sequential
from ..profiling import launches, records, trials

Say = Callable[[str], None]

_LARGEST = 2e6
"""Floating-point operations of the largest case that is tried."""

_CASES = 4
"""The most cases of each kernel that are tried."""

_STEPS = 20
_TOLERANCE = 1e-3
"""The largest difference of the losses of the short training, relative to them: ten times what
`_STEPS` roundings of sums of some thousand terms, (4 + √terms) · eps each, amount to."""


@dataclass(frozen=True)
class Verdict:
    """What the check found: `fault` is one sentence, or None."""

    gpu: str
    fault: str | None
    kernels: int
    cases: int
    seconds: float
    date: str

    def __str__(self) -> str:
        result = f"FAILED: {self.fault}" if self.fault else f"passed: {self.kernels} kernels in {self.cases} cases"
        return f"{result} ({self.date}, {self.seconds:.1f} s)"


def device(name: str, say: Say = lambda line: None) -> str:
    """The device for `name`: "auto" is the first GPU if there is one that passes its check, else the
    CPU.

    A GPU that fails is named in a warning. Raises `KernelError` if it is asked for by name.
    """
    if name != "auto":
        if name.startswith("gpu") and choose.gpu_state()[0]:
            known = stored(choose.select(name))
            if known is not None and known.fault:
                raise KernelError(f"device={name!r} fails its check: {known.fault}; the CPU is used with device='cpu'")
        return name
    if not choose.gpu_state()[0]:
        return "cpu"
    where = "gpu:0"
    verdict = stored(where) or run(where, say)
    if verdict.fault:
        warn(f"{verdict.gpu} is not used, because it fails its check: {verdict.fault}. The CPU is used instead")
        return "cpu"
    return where


def stored(where: str) -> Verdict | None:
    """The verdict on this device that is kept in the cache; None if there is none."""
    try:
        return Verdict(
            **json.loads((places.cache_location() / "self-check" / _file(where)).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, TypeError):
        return None


def run(where: str, say: Say = lambda line: None) -> Verdict:
    """Check the device now, and keep the verdict."""
    say(f"checking {records.name_of(where)} once: kernels against their definitions, and a short training")
    start, kernels = time.perf_counter(), list(_kernels())
    tried = [trial for k in kernels for trial in trials.trials([k], where, largest=_LARGEST)[:_CASES]]
    for device in {trial.device for trial in tried}:
        with trials.running(device):
            _compile([trial for trial in tried if trial.device == device])
    faults = (f"{trial}: {fault}" for trial in tried if (fault := trial.fault()) is not None)
    fault = next(faults, None) or _training(where)
    seconds = round(time.perf_counter() - start, 2)
    verdict = Verdict(records.name_of(where), fault, len(kernels), len(tried), seconds, time.strftime("%Y-%m-%d"))
    folder = places.cache_folder("self-check")
    if folder is not None:  # else the next run checks again
        write_atomically(folder / _file(where), (json.dumps(asdict(verdict), indent=1) + "\n").encode())
    return verdict


def _kernels() -> Iterator[Kernel]:
    """The kernel that `auto` takes for each op, for CUDA C++."""
    for op in trials.every_op():
        kernels = op.kernels(("cuda",))
        preferred = next((kernels[f"{name}_cuda"] for name in op.prefer if f"{name}_cuda" in kernels), None)
        if preferred is not None:
            yield preferred


def _compile(tried: list[trials.Trial]) -> None:
    """Compile side by side what the trials launch."""
    arch = f"sm_{choose.current().cc}"
    ahead.compile_ahead(lambda: [launches.launches(trial.kernel, trial.case, arch) for trial in tried])


def _training(where: str) -> str | None:
    """What is wrong with a short training on the device, in one sentence, or None."""
    here, there = _losses("cpu"), _losses(where)
    difference = float(np.max(np.abs(there - here) / np.abs(here)))
    if difference <= _TOLERANCE:
        return None
    return f"the losses of {_STEPS} steps of training differ from those on the CPU by {difference:.2g}, relative"


def _losses(where: str) -> np.ndarray:
    """The loss after each pass over a few images."""
    with choice.using("auto", device=where):
        utils.set_random_seed(0)
        model = Sequential(
            [
                layers.Input((8, 8, 1)),
                layers.Conv2D(8, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dropout(0.25),
                layers.Dense(4, activation="softmax"),
            ]
        )
        model.compile(optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
        x = np.random.default_rng(0).random((40, 8, 8, 1), np.float32)
        history = model.fit(x, np.arange(40) % 4, batch_size=8, epochs=_STEPS // 5, verbose=0)
    return np.array(history.history["loss"])


def _file(where: str) -> str:
    """The name of the file of a verdict."""
    return records.fingerprint(where) + ".json"
