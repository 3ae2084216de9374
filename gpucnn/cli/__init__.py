"""The command `gpucnn`: arguments in, calls of `experiment`, `datasets`, `zoo` and `doctor`, their answers out."""

from . import bench, kernels, looking, running
from .group import main

__all__ = ["bench", "kernels", "looking", "main", "running"]
