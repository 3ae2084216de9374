"""gpucnn: a CNN training engine with its own kernels, and a Keras-shaped `Sequential` on top.

from gpucnn import Sequential, layers
"""

from . import (
    activations,
    callbacks,
    constraints,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    random,
    regularizers,
    utils,
)
from .config import register
from .layers import Input
from .model import Sequential
from .registry import kernel, load, use, using
from .version import __version__

__all__ = [
    "Input",
    "Sequential",
    "__version__",
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "initializers",
    "kernel",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "random",
    "register",
    "regularizers",
    "use",
    "using",
    "utils",
]
