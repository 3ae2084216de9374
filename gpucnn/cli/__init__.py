"""The command `gpucnn`: from arguments to calls, and from their results to text or JSON."""

from . import (
    bench,
    cache,
    data,
    demo,
    doctor,
    emulate,
    exchange,
    kernels,
    kernels_plan,
    kernels_tune,
    models,
    notebooks,
    pictures,
    runs,
    sweep,
    train,
)
from .group import main

__all__ = [
    "bench",
    "cache",
    "data",
    "demo",
    "doctor",
    "emulate",
    "exchange",
    "kernels",
    "kernels_plan",
    "kernels_tune",
    "main",
    "models",
    "notebooks",
    "pictures",
    "runs",
    "sweep",
    "train",
]
