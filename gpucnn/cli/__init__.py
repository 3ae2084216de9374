"""The command `gpucnn`: from arguments to calls, and from their results to text or JSON."""

from . import bench, data, doctor, emulate, kernels, models, runs
from .group import main

__all__ = ["bench", "data", "doctor", "emulate", "kernels", "main", "models", "runs"]
