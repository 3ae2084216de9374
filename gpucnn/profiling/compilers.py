"""What the compilers report about one launch, without a GPU: registers, spills, shared memory,
machine instructions.

CUDA C++ is compiled by NVRTC, numba.cuda by libNVVM and nvJitLink; all are wheels, and none needs a
driver. The instructions come from nvdisasm, if it is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from ..devices.cards import MULTIPROCESSORS
from ..devices.cuda import CudaFunction
from ..devices.launchable import CudaLaunchable, NumbaLaunchable
from ..devices.nvrtc import NvrtcOutput, compile_cuda
from ..errors import CompilerLog, KernelError
from .launches import Launch

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""The architectures that gpucnn compiles for: Turing to Blackwell."""


@dataclass(frozen=True)
class Resources:
    """What one kernel uses: `shared_bytes` for each block, the rest for each thread."""

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_stores: int
    spill_loads: int


@dataclass(frozen=True)
class Instructions:
    """The machine instructions of one kernel with their modifiers.

    all         in the order of the code
    main        the innermost loops that compute most; several if each is for another alignment of
                the operands or another order of their axes
    streaming   the innermost loop that loads most from global memory
    """

    all: tuple[str, ...]
    main: tuple[tuple[str, ...], ...]
    streaming: tuple[str, ...]

    @property
    def loop(self) -> tuple[str, ...]:
        """The shortest of the main loops."""
        return min(self.main, key=len, default=())

    @property
    def ffma_share(self) -> float:
        """The share of multiply-adds (FFMA, HMMA) among the instructions of the main loop."""
        return sum(flops_of(name) > 0 for name in self.loop) / len(self.loop) if self.loop else 0.0

    @property
    def fp64(self) -> list[str]:
        """Instructions in double precision."""
        return sorted({name for name in self.all if re.match(r"D(ADD|MUL|FMA|SETP|MNMX)|MUFU\.\w*64|.*\.F64", name)})

    def wide(self, load: str) -> int:
        """The number of 128-bit loads of a kind: LDG (global) or LDS (shared)."""
        return sum(name.startswith(load) and ".128" in name for name in self.all)

    def flops_per_byte(self, load: str) -> float | None:
        """Floating-point operations for each byte loaded in the main loop; None without loads."""
        loaded = bytes_of(self.loop, load)
        return sum(map(flops_of, self.loop)) / loaded if loaded else None

    def counts(self) -> Counter[str]:
        """How often each instruction occurs in the kernel, without modifiers."""
        return Counter(name.split(".")[0] for name in self.all)


def _of_cuda(function: CudaLaunchable, arch: str) -> NvrtcOutput:
    """A kernel alone, as on a GPU."""
    try:
        return _of_text(function.program(), function.path.name, tuple(sorted(function.defines.items())), arch)
    except CompilerLog as log:
        raise function.refused(str(log)) from None


@cache
def _of_text(text: str, file: str, defines: tuple[tuple[str, Any], ...], arch: str) -> NvrtcOutput:
    return compile_cuda(text, file, dict(defines), arch=arch)


@cache
def _of_numba(function: NumbaLaunchable, signature: tuple, arch: str) -> tuple[bytes, str, str]:
    """(cubin, log of the assembler, name of the entry) of one kernel."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    text, entry = function.ptx(signature, _compute_capability(arch))
    linker = Linker(ObjectCode.from_ptx(text.encode()), options=LinkerOptions(arch=arch, ptxas_options=["-v"]))
    code = bytes(linker.link("cubin").code)
    return code, linker.get_info_log(), entry


def cubin(launch: Launch, arch: str) -> tuple[bytes, str, str]:
    """(cubin, log of the assembler, name of the entry) of a launch. Raises `KernelError`."""
    if isinstance(launch.function, CudaFunction):
        output = _of_cuda(launch.function, arch)
        return output.cubin, output.log, launch.function.name
    function = cast("NumbaLaunchable", launch.function)
    return _of_numba(function, function.signature(list(launch.arguments)), arch)


def resources(launch: Launch, arch: str) -> Resources:
    """Registers, memory and spills, from the log of the assembler."""
    _, log, entry = cubin(launch, arch)
    part = re.search(
        rf"Function properties for '?{re.escape(entry)}'?\s.*?(?=Compiling entry|Function properties|$)", log, re.S
    )
    if part is None:
        raise KernelError(f"the assembler's log for {arch} does not mention {entry}: {log.strip()[:300]}")

    def number(pattern: str) -> int:
        match = re.search(pattern, part[0])
        return int(match[1]) if match else 0

    return Resources(
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes smem") or _shared_of_numba(launch, arch),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes spill loads"),
    )


def _shared_of_numba(launch: Launch, arch: str) -> int:
    """Bytes of the shared arrays in the PTX of Numba, which the assembler's log leaves out."""
    if isinstance(launch.function, CudaFunction):
        return 0
    arrays = re.findall(r"\.shared\s+\.align\s+\d+\s+\.b8\s+\S+\[(\d+)\]", ptx(launch, arch))
    return sum(map(int, arrays))


def ptx(launch: Launch, arch: str) -> str:
    """The PTX from which the machine code of a launch's function is made."""
    if isinstance(launch.function, CudaFunction):
        return _of_cuda(launch.function, arch).ptx
    function = cast("NumbaLaunchable", launch.function)
    return function.ptx(function.signature(list(launch.arguments)), _compute_capability(arch))[0]


def _compute_capability(arch: str) -> tuple[int, int]:
    return divmod(int(arch.removeprefix("sm_")), 10)


def occupancy(launch: Launch, used: Resources, arch: str) -> float:
    """The share of a multiprocessor's threads that can be resident."""
    warps = -(-launch.threads // 32)
    return resident_blocks(launch, used, arch) * 32 * warps / MULTIPROCESSORS[arch].threads


def resident_blocks(launch: Launch, used: Resources, arch: str) -> int:
    """How many blocks a multiprocessor holds at a time, limited by threads, registers and shared
    memory."""
    limit = MULTIPROCESSORS[arch]
    warps = -(-launch.threads // 32)
    registers = -(-used.registers * 32 // 256) * 256 * warps
    shared = used.shared_bytes + launch.geometry.shared_bytes + MULTIPROCESSORS[arch].reserved_shared_bytes
    blocks = min(limit.blocks, limit.threads // (32 * warps), limit.registers // max(registers, 1))
    if used.shared_bytes + launch.geometry.shared_bytes:
        blocks = min(blocks, limit.shared_bytes // shared)
    return blocks


def disassembler() -> str | None:
    """The path of nvdisasm, from its wheel or from PATH; None if it is not installed."""
    for folder in map(Path, sys.path):
        for tool in folder.glob("nvidia/*/bin/nvdisasm"):
            return str(tool)
    return shutil.which("nvdisasm")


def instructions(launch: Launch, arch: str) -> Instructions:
    """The machine instructions of a launch's function. Raises `KernelError` without nvdisasm."""
    code, _, entry = cubin(launch, arch)
    return _disassembled(code)[entry]


@cache
def _disassembled(code: bytes) -> dict[str, Instructions]:
    """The instructions of each kernel of a cubin."""
    tool = disassembler()
    if tool is None:
        raise KernelError("nvdisasm is not installed: pip install 'gpucnn[compile]'")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        done = subprocess.run([tool, "-c", "-ndf", file.name], capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise KernelError(f"nvdisasm fails: {done.stderr.strip()[:300]}")
    sections = re.split(r"^\s*\.section\s+\.text\.(\S+?),.*$", done.stdout, flags=re.MULTILINE)
    return {name: _parsed(text) for name, text in zip(sections[1::2], sections[2::2], strict=True)}


def _parsed(text: str) -> Instructions:
    """The instructions in the text of one kernel; a loop reaches from a label to a later branch
    back to it."""
    names: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(names)
        elif match := re.match(r"\s*/\*\w+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*);", line):
            names.append(match[1])
            target = re.search(r"\.L_\w+", match[2]) if match[1].startswith("BRA") else None
            if target and target[0] in labels:
                loops.append((labels[target[0]], len(names)))

    def largest(work: Callable[[tuple[str, ...]], float]) -> tuple[tuple[str, ...], ...]:
        """The loops that do most of something, of nested ones the inner."""
        works = {(i, j): work(tuple(names[i:j])) for i, j in loops}
        most = [loop for loop in loops if works[loop] == max(works.values()) > 0]
        inner = [(i, j) for i, j in most if not any(i <= a and b <= j and (a, b) != (i, j) for a, b in most)]
        return tuple(tuple(names[i:j]) for i, j in inner)

    main = largest(lambda loop: sum(map(flops_of, loop)))
    streaming = min(largest(lambda loop: bytes_of(loop, "LDG")), key=len, default=())
    return Instructions(tuple(name for name in names if name != "NOP"), main, streaming)


def flops_of(name: str) -> int:
    """Floating-point operations of one instruction for each thread: of FFMA, with or without
    flushing of denormals, and of HMMA, which 32 threads execute together."""
    if matrices := re.match(r"HMMA\.16(8)(8|16|4)\.", name):
        return 2 * 16 * int(matrices[1]) * int(matrices[2]) // 32
    return 2 if name.split(".")[0] == "FFMA" else 0


def width_of(name: str) -> int:
    """Bytes of one load or store of a thread."""
    for modifier, width in ((".128", 16), (".64", 8), (".U16", 2), (".S16", 2), (".U8", 1), (".S8", 1)):
        if modifier in name:
            return width
    return 4


def bytes_of(names: Iterable[str], load: str) -> int:
    """Bytes that a thread loads by instructions of a kind, such as LDG, on their way to registers
    or to shared memory."""
    return sum(width_of(name) for name in names if name.split(".")[0] in (load, f"{load}STS"))
