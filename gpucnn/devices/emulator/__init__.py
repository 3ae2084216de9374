"""GPU kernels on the CPU: CUDA C++ and numba.cuda kernels run unchanged, every thread a fiber, with a checker.

    import gpucnn
gpucnn.use("cuda", device="emulator")              # arrays in host memory, kernels compiled by the C++ compiler
with emulator.running(mode="check", seed=7): ...   # races, bounds, alignment, uninitialised reads, barriers
with emulator.running(mode="check", count=True) as run: ...
run.launches                                       # (kernel, Statistics): sectors, wavefronts, by source line

`fast` runs the threads of a block in an order given by a seed. `check` instruments each access as well and names file
and line of what it finds, whatever the order.
"""

from ...errors import LaunchError
from .array import EmulatedArray
from .compiler import unavailable
from .launching import Statistics, running, settings

__all__ = ["EmulatedArray", "LaunchError", "Statistics", "running", "settings", "unavailable"]
