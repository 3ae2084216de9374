"""The command `gpucnn`: from arguments to calls, and from their results to text or JSON."""

from . import bench, cache, data, doctor, emulate, exchange, kernels, kernels_plan, models, runs
from .group import main

__all__ = [
    "bench",
    "cache",
    "data",
    "doctor",
    "emulate",
    "exchange",
    "kernels",
    "kernels_plan",
    "main",
    "models",
    "runs",
]
