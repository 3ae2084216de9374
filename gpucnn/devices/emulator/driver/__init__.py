"""An emulated CUDA driver: CuPy and numba-cuda themselves, on a machine without a GPU.

`gpucnn emulate-gpu COMMAND` runs a command on it. It is switched on by `start`, before CuPy is
imported, in a process that `environment` was prepared for, and in the Python processes that this
starts. See README.md in this folder.
"""

from .build import unavailable
from .cards import CARDS, Card
from .session import VARIABLE, Counters, Session, counters, environment, running, start

__all__ = [
    "CARDS",
    "VARIABLE",
    "Card",
    "Counters",
    "Session",
    "counters",
    "environment",
    "running",
    "start",
    "unavailable",
]
