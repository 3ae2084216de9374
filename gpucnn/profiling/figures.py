"""The figures of a kernel on a real shape, without a GPU: what it takes, and how it spends its instructions.

They are the ones by which the rungs of a ladder differ: naive → tiled → warptiled loads fewer bytes for each operation,
first from global, then from shared memory, and spends a larger share of its instructions on arithmetic.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import places
from ..devices.cuda import CudaFunction
from ..dispatch.op import Case
from ..dispatch.registry import Kernel
from ..errors import KernelError
from ..files import write_atomically
from ..version import installed_version
from . import compilers, launches, records, trials

MULTIPROCESSORS = 132
"""Of an H100 SXM: fewer blocks leave some idle."""


@dataclass(frozen=True)
class Figures:
    """One function of a kernel on one case and architecture.

    registers, spill_bytes       of a thread
    shared_bytes                 of a block, static and dynamic
    occupancy                    the share of a multiprocessor's threads that can be resident
    ffma_share                   of the instructions of the main loop; None where nvdisasm is not installed
    flops_per_global_byte        of the main loop, by what a thread loads there; None without such loads
    flops_per_shared_byte        the same for shared memory
    wide_loads                   how many loads of 128 bits, global and shared
    fp64                         instructions in double precision
    """

    case: str
    function: str
    arch: str
    blocks: int
    threads: int
    registers: int
    shared_bytes: int
    spill_bytes: int
    occupancy: float
    ffma_share: float | None = None
    flops_per_global_byte: float | None = None
    flops_per_shared_byte: float | None = None
    wide_loads: tuple[int, int] | None = None
    fp64: tuple[str, ...] | None = None

    @property
    def waves(self) -> float:
        """Blocks for each multiprocessor of an H100."""
        return self.blocks / MULTIPROCESSORS


def hot_case(kernel: Kernel) -> Case | None:
    """The case by which a kernel is judged: of the large ones that it takes, the one with the most work."""
    taken = [case for case in kernel.op.cases if launches.serves(kernel, case)]
    large = [case for case in taken if case.bench] or taken
    return max(large, key=lambda case: trials.work(kernel.op, case), default=None)


def of_kernel(kernel: Kernel, case: Case, arch: str) -> list[Figures]:
    """The figures of each function that the kernel launches on this case. Raises `KernelError` where no compiler is."""
    return [of_launch(launch, case.name, arch) for launch in launches.launches(kernel, case)]


def of_launch(launch: launches.Launch, case: str, arch: str) -> Figures:
    """The figures of one launch; kept on disk, since compiling takes most of a second."""
    path = places.cache_folder("figures") / f"{_key(launch, arch)}.json"
    if path.is_file():
        told = json.loads(path.read_text())
    else:
        told = _measured(launch, arch)
        write_atomically(path, json.dumps(told).encode())
    pairs: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return Figures(
        case=case, function=launch.function.name, arch=arch, blocks=launch.blocks, threads=launch.threads, **pairs
    )


def main_of(figures: list[Figures]) -> Figures:
    """The function in which a kernel spends its arithmetic: the largest share of FFMA, else the first."""
    return max(figures, key=lambda f: f.ffma_share or 0.0)


def row(figures: Figures) -> dict:
    """As JSON values."""
    return asdict(figures) | {"waves": figures.waves}


def _measured(launch: launches.Launch, arch: str) -> dict:
    taken = compilers.resources(launch, arch)
    told: dict = {
        "registers": taken.registers,
        "shared_bytes": taken.shared_bytes + launch.shared_bytes,
        "spill_bytes": taken.spill_stores + taken.spill_loads,
        "occupancy": compilers.occupancy(launch, taken, arch),
    }
    if compilers.disassembler() is not None:
        found = compilers.instructions(launch, arch)
        told |= {
            "ffma_share": found.ffma_share,
            "flops_per_global_byte": found.flops_per_byte("LDG"),
            "flops_per_shared_byte": found.flops_per_byte("LDS"),
            "wide_loads": [found.wide("LDG"), found.wide("LDS")],
            "fp64": found.fp64,
        }
    return told


def _key(launch: launches.Launch, arch: str) -> str:
    function = launch.function
    if isinstance(function, CudaFunction):
        text, kind = function.source(), sorted(function.defines.items())
    else:
        text, kind = compilers.ptx(launch, arch), []
    shape = (launch.threads, launch.shared_bytes, function.name, str(kind), arch, compilers.disassembler() is None)
    rules = Path(compilers.__file__).read_text() + Path(__file__).read_text()
    return places.cache_key(text, shape, rules, records.versions()["numba-cuda"], _toolkit())


@lru_cache
def _toolkit() -> str | None:
    return installed_version("nvidia-cuda-nvrtc") or installed_version("nvidia-cuda-nvrtc-cu12")


def unavailable() -> str | None:
    """Why nothing can be compiled here, in one sentence; None if it can."""
    try:
        from ..devices.nvrtc import compiled

        compiled('extern "C" __global__ void nothing() {}', "nothing.cu", {}, arch="sm_80")
    except KernelError as error:
        return str(error)
    return None
