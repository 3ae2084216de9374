"""The command `gpucnn`: arguments in, calls of `experiment`, `datasets`, `zoo` and `doctor`, their answers out."""

from . import kernels, looking, running
from .group import main

__all__ = ["kernels", "looking", "main", "running"]
