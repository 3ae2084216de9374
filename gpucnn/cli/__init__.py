"""The command `gpucnn`: arguments in, calls of `experiment`, `datasets`, `zoo` and `doctor`, their answers out."""

from . import looking, running
from .group import main

__all__ = ["looking", "main", "running"]
