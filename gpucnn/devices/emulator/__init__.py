"""GPU kernels on the CPU: CUDA C++ and numba.cuda kernels run unchanged, every thread a fiber, with
a checker.

    import gpucnn
    from gpucnn.devices import emulator

    gpucnn.use("cuda", device="emulator")              # kernels compiled by the C++ compiler
    with emulator.running(mode="check", seed=7): ...   # races, bounds, alignment, barriers, …
    with emulator.running(mode="check", count=True) as run: ...
    run.launches                                       # (kernel, Statistics) of each launch

`fast` runs the threads of a block in an order given by a seed. `check` also instruments each
access, and names file and line of each fault, whatever the order.
"""

from ...errors import LaunchError
from .array import EmulatedArray
from .compiler import unavailable
from .launching import Statistics, running, settings

__all__ = ["EmulatedArray", "LaunchError", "Statistics", "running", "settings", "unavailable"]
