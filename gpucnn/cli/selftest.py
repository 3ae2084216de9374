"""What `gpucnn doctor` tries: each check returns a remark, or raises: `Absent` for what this
machine lacks and gpucnn can do without, anything else if something is wrong."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..devices import choose
from ..dispatch.case import Spec
from ..layers import Conv2D, Dense, Flatten, Input
from ..models import saving
from ..models.sequential import Sequential
from ..ops.conv2d import conv2d
from ..ops.matmul import matmul


class Absent(Exception):
    """What is not here, and how to get it."""


def _matrix_product() -> str:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-1, 1, (512, 512)).astype(np.float32) for _ in range(2))
    _agree(a @ b, a.astype(np.float64) @ b, np.abs(a) @ np.abs(b), 512)
    start = time.perf_counter()
    a @ b
    seconds = time.perf_counter() - start
    return f"{2 * 512**3 / seconds / 1e9:.0f} GFLOP/s"


def _compiled_kernel() -> str:
    import numba

    @numba.njit
    def triangle(n: int) -> int:
        total = 0
        for i in range(n + 1):
            total += i
        return total

    if triangle(1000) != 500500:
        raise ArithmeticError(f"0 + 1 + … + 1000 gives {triangle(1000)}")
    return "compiled and run by Numba"


def _convolution() -> str:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (8, 14, 14, 8)).astype(np.float32)
    weight = rng.uniform(-1, 1, (3, 3, 8, 16)).astype(np.float32)
    params: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    truth = conv2d.reference(x.astype(np.float64), weight.astype(np.float64), **params)
    _agree(conv2d(x, weight, **params), truth, conv2d.reference(np.abs(x), np.abs(weight), **params), 72)
    kernel = conv2d.find((Spec(x.shape, x.dtype), Spec(weight.shape, weight.dtype)), params)
    return f"{kernel.id if kernel else 'the NumPy reference'} agrees with float64"


def _agree(result: np.ndarray, truth: np.ndarray, magnitude: np.ndarray, terms: int) -> None:
    """Raise unless a float32 sum of `terms` products is as accurate as rounding allows."""
    bound = (4 + terms**0.5) * np.finfo(np.float32).eps * magnitude
    if not np.all(np.abs(result - truth) <= bound):
        raise ArithmeticError(f"the error is {np.abs(result - truth).max():.3g}, the limit {bound.max():.3g}")


def _weights_file() -> str:
    model, other = _tiny_model(), _tiny_model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.weights.safetensors"
        model.save_weights(path)
        other.load_weights(path)
    if saving.weights_sha256(model) != saving.weights_sha256(other):
        raise ArithmeticError("the weights that were read differ from those that were written")
    return "written, read, equal bit for bit"


def _training() -> str:
    model = _tiny_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    y = np.arange(32) % 2
    x = np.zeros((32, 8, 8, 1), np.float32)
    x[y == 1, 2:6, 2:6] = 1
    losses = [float(model.test_on_batch(x, y))]
    for _ in range(30):
        model.reset_metrics()
        model.train_on_batch(x, y)
    model.reset_metrics()
    losses.append(float(model.test_on_batch(x, y)))
    if not losses[1] < losses[0]:
        raise ArithmeticError(f"30 steps took the loss from {losses[0]:.3g} to {losses[1]:.3g}")
    return f"30 steps took the loss from {losses[0]:.2f} to {losses[1]:.2f}"


def _emulator() -> str:
    from ..devices import emulator

    reason = emulator.unavailable()
    if reason:
        raise Absent(reason)
    return _kernels_for_gpus("emulator")


def _gpu() -> str:
    count, reason = choose.gpu_state()
    if not count:
        raise Absent(reason)
    return _kernels_for_gpus("gpu:0")


def _kernels_for_gpus(where: str) -> str:
    """Compare a kernel of each language that can be compiled here with its op."""
    from ..profiling import trials

    case = next(case for case in matmul.cases if case.name == "ragged")
    reasons = {backend: _missing_compiler(backend) for backend in ("cuda", "numba")}
    kernels = [matmul.kernels((b,))[f"naive_{b}"] for b, reason in reasons.items() if reason is None]
    for kernel in kernels:
        fault = trials.Trial(kernel, case, where, "fast" if where == "emulator" else "").fault()
        if fault:
            raise ArithmeticError(fault)
    left_out = "".join(f"; not tried: matmul/naive_{b} ({reason})" for b, reason in reasons.items() if reason)
    return f"as defined: {', '.join(kernel.id for kernel in kernels)}{left_out}"


def _missing_compiler(backend: str) -> str | None:
    """What kernels of a backend need in addition to the device's own compiler."""
    from ..profiling import trials

    return trials.missing_numba_cuda() if backend == "numba" else None


def _compilers() -> str:
    from ..profiling import static_analysis

    reasons = [reason for reason in (static_analysis.unavailable(), _missing_compiler("numba")) if reason]
    if reasons:
        raise Absent("; ".join(reasons))
    return "NVRTC and libNVVM compile for GPUs"


def _tiny_model() -> Sequential:
    return Sequential([Input((8, 8, 1)), Conv2D(4, 3, activation="relu"), Flatten(), Dense(2, activation="softmax")])


CHECKS: dict[str, Callable[[], str]] = {
    "matrix product": _matrix_product,
    "compiled kernel": _compiled_kernel,
    "convolution": _convolution,
    "weights file": _weights_file,
    "training": _training,
    "emulator": _emulator,
    "compilers": _compilers,
    "GPU kernel": _gpu,
}
"""The checks by name, in the order in which they run."""
