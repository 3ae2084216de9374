"""Figures of a kernel on a real shape, from its machine code and without running it.

The steps of a ladder differ by them: naive → tiled → warptiled loads fewer bytes for each
operation, first from global, then from shared memory, and spends a larger share of its instructions
on arithmetic.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import places
from ..devices.cards import CARDS
from ..devices.cuda import CudaFunction
from ..dispatch.case import Case
from ..dispatch.op import Kernel
from ..errors import CompileError
from ..version import installed_version
from . import compilers, launches, records, trials

MULTIPROCESSORS = CARDS["h100"].multiprocessors
"""Of an H100: fewer blocks leave some of them idle."""


@dataclass(frozen=True)
class Figures:
    """One function of a kernel on one case and architecture.

    registers, spill_bytes       of a thread
    shared_bytes                 of a block, static and dynamic
    occupancy                    the share of a multiprocessor's threads that can be resident
    ffma_share                   of multiply-adds (FFMA, HMMA) among the instructions of the main
                                 loop; None without nvdisasm
    flops_per_global_byte        of the main loop, by bytes that a thread loads; None without loads
    flops_per_shared_byte        the same for shared memory
    wide_loads                   the numbers of 128-bit loads, global and shared
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


def largest_case(kernel: Kernel, arch: str | None = None) -> Case | None:
    """The case by which a kernel is judged: of the large ones it serves (on GPUs of an
    architecture), the one with most work."""
    served = [case for case in kernel.op.cases if launches.serves(kernel, case, arch)]
    large = [case for case in served if case.bench] or served
    return max(large, key=lambda case: trials.work(kernel.op, case), default=None)


def of_kernel(kernel: Kernel, case: Case, arch: str) -> list[Figures]:
    """The figures of each function that the kernel launches on this case. Raises `KernelError`
    without a compiler."""
    return [of_launch(launch, case.name, arch) for launch in launches.launches(kernel, case)]


def of_launch(launch: launches.Launch, case: str, arch: str) -> Figures:
    """The figures of one launch, cached on disk, since compiling takes most of a second."""
    text = places.cached("figures", f"{key(launch, arch)}.json", lambda: json.dumps(_measured(launch, arch)).encode())
    values = json.loads(text)
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Figures(
        case=case, function=launch.function.name, arch=arch, blocks=launch.blocks, threads=launch.threads, **fields
    )


def row(figures: Figures) -> dict:
    """As JSON values."""
    return asdict(figures) | {"waves": figures.waves}


def _measured(launch: launches.Launch, arch: str) -> dict:
    used = compilers.resources(launch, arch)
    values: dict = {
        "registers": used.registers,
        "shared_bytes": used.shared_bytes + launch.geometry.shared_bytes,
        "spill_bytes": used.spill_stores + used.spill_loads,
        "occupancy": compilers.occupancy(launch, used, arch),
    }
    if compilers.disassembler() is not None:
        code = compilers.instructions(launch, arch)
        values |= {
            "ffma_share": code.ffma_share,
            "flops_per_global_byte": code.flops_per_byte("LDG"),
            "flops_per_shared_byte": code.flops_per_byte("LDS"),
            "wide_loads": [code.wide("LDG"), code.wide("LDS")],
            "fp64": code.fp64,
        }
    return values


def key(launch: launches.Launch, arch: str) -> str:
    """A file name for all that the figures of a launch depend on."""
    function = launch.function
    if isinstance(function, CudaFunction):
        text, kind = function.program(), sorted(function.defines.items())
    else:
        text, kind = compilers.ptx(launch, arch), []
    shape = (
        launch.threads,
        launch.geometry.shared_bytes,
        function.name,
        str(kind),
        arch,
        compilers.disassembler() is None,
    )
    rules = "".join(Path(file).read_text(encoding="utf-8") for file in (compilers.__file__, __file__))
    return places.cache_key(text, shape, rules, records.versions()["numba-cuda"], _toolkit())


def _toolkit() -> str | None:
    """The version of NVRTC."""
    return installed_version("nvidia-cuda-nvrtc") or installed_version("nvidia-cuda-nvrtc-cu12")


def unavailable() -> str | None:
    """Why CUDA C++ cannot be compiled here, in one sentence; None if it can."""
    try:
        from ..devices.nvrtc import compile_cuda

        compile_cuda('extern "C" __global__ void nothing() {}', "nothing.cu", {}, arch="sm_80")
    except CompileError as error:
        return str(error).removeprefix("nothing.cu cannot be compiled here: ")
    return None
