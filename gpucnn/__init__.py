"""gpucnn: a CNN training engine with its own kernels, and a Keras-shaped `Sequential` on top.

from gpucnn import Sequential, layers
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import (
    activations,
    callbacks,
    constraints,
    datasets,
    exchange,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    progress,
    random,
    regularizers,
    utils,
)
from .config import register
from .devices.cuda import cuda_function
from .dispatch import check, choice
from .dispatch.choice import use, using
from .dispatch.op import kernel, load
from .layers import Input
from .models import Sequential
from .retired import absent
from .runs import self_check
from .runs.trained_run import load_run
from .version import __version__

if TYPE_CHECKING:
    from . import plots as plots
    from .devices.numba_cuda import cuda as cuda
    from .devices.numba_cuda import numba_function as numba_function

__all__ = [
    "Input",
    "Sequential",
    "__version__",
    "activations",
    "callbacks",
    "check",
    "constraints",
    "cuda_function",
    "datasets",
    "exchange",
    "initializers",
    "kernel",
    "layers",
    "load",
    "load_run",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plots",
    "random",
    "register",
    "regularizers",
    "use",
    "using",
    "utils",
]

choice.automatic_device = lambda: self_check.device("auto", progress.say)
choice.tuner = lambda *call: importlib.import_module("gpucnn.profiling.tuning").fastest(*call)

_absent = absent(
    __name__,
    {
        "Model": "use Sequential, a stack of layers",
        "applications": "gpucnn.runs.zoo has the models that can be trained by name",
        "keras": "leave out .keras, as in gpucnn.layers and gpucnn.datasets",
        "backend": "use gpucnn.use(...) for backends and gpucnn.utils.set_random_seed for seeds",
        "preprocessing": "scale arrays yourself or with layers.Rescaling; `gpucnn train --data FOLDER` reads images",
        "mixed_precision": "write model.compile(..., precision='bfloat16'), which keeps weights and sums in float32",
        "distribution": "gpucnn.distributed trains one model in several processes",
        "export": "export with model.export('model.onnx')",
    },
)

_LAZY = {"cuda": "devices.numba_cuda", "numba_function": "devices.numba_cuda", "plots": ""}
"""Names and their modules, imported at first use: `import gpucnn` must not load numba or matplotlib."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module = importlib.import_module(f".{_LAZY[name] or name}", __name__)
        return getattr(module, name) if _LAZY[name] else module
    return _absent(name)
