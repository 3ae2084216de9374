"""What the instructions of a kernel cost on a card: the cycles for which a warp keeps each unit of a
multiprocessor busy.

The instructions are those of the machine code, as nvdisasm prints it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

from .. import places
from ..devices.cards import Card
from . import compilers, static_analysis
from .launches import Launch

_SCHEDULERS = 4
"""Of a multiprocessor, each of which issues one instruction in a cycle (guide, 7.5 to 9.0)."""

_INTEGER_LANES = 64
_SPECIAL_LANES = 16
"""Threads whose integer operation, comparison or selection, and whose MUFU, a multiprocessor begins
in a cycle (guide, 7.5 to 9.0)."""

_FP32 = ("FFMA", "FADD", "FMUL")
_INTEGER = ("IADD", "IMAD", "LOP", "SHF", "LEA", "ISETP", "SEL", "PRMT", "FSETP", "FSEL", "FMNMX", "IMNMX", "VIADD")
_SHARED = ("LDS", "STS", "LDSM")
_MEMORY = (*_SHARED, "LDG", "STG", "LDGSTS", "ATOM", "RED")


@dataclass(frozen=True)
class Mix:
    """The machine code of one function on one architecture.

    registers    of a thread
    shared_bytes of a block
    resident     blocks that a multiprocessor holds at a time
    straight     how often each instruction occurs outside of the main loops; for one of them, if there
                 are several
    main         the same for each main loop
    streaming    the same for the loop that loads most from global memory
    """

    registers: int
    shared_bytes: int
    resident: int
    straight: dict[str, int]
    main: list[dict[str, int]]
    streaming: dict[str, int]


def of_launch(launch: Launch, arch: str) -> Mix:
    """The machine code of a launch's function, cached on disk. Raises `KernelError` without the
    compilers or nvdisasm."""

    def measured() -> bytes:
        used, code = compilers.resources(launch, arch), compilers.instructions(launch, arch)
        main = [Counter(loop) for loop in code.main]
        around = Counter(code.all)
        for loop in main:
            around -= loop
        straight = {name: -(-count // max(len(main), 1)) for name, count in around.items()}
        shared = used.shared_bytes + launch.geometry.shared_bytes
        resident = compilers.resident_blocks(launch, used, arch)
        mix = Mix(
            used.registers, shared, resident, straight, [dict(loop) for loop in main], dict(Counter(code.streaming))
        )
        return json.dumps(asdict(mix)).encode()

    rules = Path(__file__).read_text(encoding="utf-8")
    name = f"{places.cache_key(static_analysis.key(launch, arch), rules)}.json"
    return Mix(**json.loads(places.cached("figures", name, measured)))


def flops(names: Mapping[str, int]) -> int:
    """Floating-point operations of a thread, multiply-adds alone."""
    return sum(compilers.flops_of(name) * count for name, count in names.items())


def bytes_loaded(names: Mapping[str, int]) -> int:
    """Bytes that a thread loads from global memory."""
    return compilers.bytes_of(Counter(names).elements(), "LDG")


def count(names: Mapping[str, int], *kinds: str) -> int:
    """How many of the instructions are of these kinds, such as LDG."""
    return sum(n for name, n in names.items() if name.split(".")[0] in kinds)


@dataclass(frozen=True)
class Access:
    """How the lanes of a warp lie to each other when they load; the default is that of gpucnn's
    products.

    scattered   passes of a load of 32 bits from global memory; 1 if neighbours lie together
    quads       passes of a load of 128 bits from shared memory. 2 is an assumption: the lanes of a
                product lie so that those of each half of a warp share what they read
                (`kernels/include/gemm.cuh`), and no table of NVIDIA's says that a half is then served
                at once; if only quarters are, it is 4.
    """

    scattered: float = 1.0
    quads: float = 2.0


def cycles(names: Mapping[str, int], card: Card, access: Access | None = None) -> dict[str, float]:
    """By unit, the cycles for which one warp that executes these instructions keeps it busy.

    A warp that multiplies on tensor cores does nothing else at the same time, and the few warps that
    the registers of such kernels allow do not fill its gaps: the two times add up. (On an H100, gpucnn's
    kernels take about 1,070 cycles of a scheduler for 96 HMMA, which need 620, and 330 others.)
    """
    access = access or Access()
    multiplied = _multiplied(names, card)
    others = (sum(names.values()) - count(names, "HMMA")) / _SCHEDULERS
    return {
        "issue": sum(names.values()) / _SCHEDULERS,
        "FP32": 32 * count(names, *_FP32) / (card.fp32 * card.fp32_share),
        "integer": 32 * sum(n for name, n in names.items() if name.startswith(_INTEGER)) / _INTEGER_LANES,
        "MUFU": 32 * count(names, "MUFU") / _SPECIAL_LANES,
        "tensor cores": multiplied + others if multiplied else 0.0,
        "shared memory": sum(n * _passes(name, card, access) for name, n in names.items()),
    }


def _multiplied(names: Mapping[str, int], card: Card) -> float:
    """Cycles of the tensor cores."""
    cycles = 0.0
    for name, n in names.items():
        if name.startswith("HMMA"):
            rate = card.bfloat16 if ".BF16" in name else card.tf32
            cycles += compilers.flops_of(name) * 16 * n / rate if rate else inf
    return cycles


def _passes(name: str, card: Card, access: Access) -> float:
    """Cycles of the path to shared memory and L1 for one instruction of a warp."""
    kind = name.split(".")[0]
    if kind not in _MEMORY:
        return 0.0
    width = compilers.width_of(name)
    passes = max(width / 4, 1.0)
    if kind == "LDS" and width == 16:
        passes = access.quads
    if kind not in _SHARED:
        passes *= access.scattered
    return max(32 / card.load_lanes, passes * 128 / card.shared_bytes)
