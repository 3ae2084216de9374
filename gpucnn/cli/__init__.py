"""The command `gpucnn`: from arguments to calls, and from their results to text or JSON."""

from . import bench, data, doctor, exchange, kernels, models, runs
from .group import main

__all__ = ["bench", "data", "doctor", "exchange", "kernels", "main", "models", "runs"]
