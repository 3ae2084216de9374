"""GPUs as data: what a prediction or the emulated GPU needs to know of a card that is not in this
machine.

Rates are per multiprocessor and clock cycle, as hardware has them. The sources that the rows name:

whitepaper   NVIDIA's architecture whitepapers: "NVIDIA H100 Tensor Core GPU", "NVIDIA A100 Tensor
             Core GPU", "NVIDIA Ampere GA102", "NVIDIA Turing", and the product page of the card
guide        CUDA C++ Programming Guide, "Compute Capabilities" and "Throughput of Native Arithmetic
             Instructions"
Luo          Luo et al., "Dissecting the NVIDIA Hopper Architecture through Microbenchmarking and
             Multiple Level Analysis", arXiv 2501.12084: `mma.sync` reaches 62 % of the tensor cores'
             rate on Hopper, where only `wgmma` reaches all of it
Jia          Jia et al., "Dissecting the NVidia Turing T4 GPU via Microbenchmarking", arXiv
             1903.07486: shared memory and L2 of Turing, and the clock of a T4 at its 70 W
ladder       the published GFLOP/s of cuBLAS or of the best kernel on that card: SGEMM_CUDA (A6000),
             Optimizing-SGEMM-on-NVIDIA-Turing-GPUs (RTX 2080 Super), KernelBench (H100)
measured     training steps of gpucnn as CUDA graphs on an H100: 0.26 to 0.45 µs from kernel to kernel
estimate     no source: the value of the nearest card
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ArgumentError, did_you_mean


@dataclass(frozen=True)
class Multiprocessor:
    """What the blocks on one multiprocessor share (CUDA C++ Programming Guide, table of compute
    capabilities); the driver reserves some of the shared memory in each block."""

    registers: int
    shared_bytes: int
    threads: int
    blocks: int
    reserved_shared_bytes: int = 1 << 10


MULTIPROCESSORS = {
    "sm_75": Multiprocessor(65536, 64 << 10, 1024, 16, reserved_shared_bytes=0),
    "sm_80": Multiprocessor(65536, 164 << 10, 2048, 32),
    "sm_86": Multiprocessor(65536, 100 << 10, 1536, 16),
    "sm_89": Multiprocessor(65536, 100 << 10, 1536, 24),
    "sm_90": Multiprocessor(65536, 228 << 10, 2048, 32),
    "sm_100": Multiprocessor(65536, 228 << 10, 2048, 32),
    "sm_120": Multiprocessor(65536, 100 << 10, 1536, 24),
}
"""By architecture."""


@dataclass(frozen=True)
class Card:
    """One card.

    arch               the architecture that kernels are compiled for
    multiprocessors    how many it has
    clock              cycles in a microsecond, at the boost clock
    fp32               multiply-adds in float32
    tf32               multiply-adds in TF32 by `mma.sync`; 0 without such tensor cores
    fp32_share         the share of `fp32` that the best known product of matrices reaches: registers
                       cannot always be read as fast as the units need them, and clocks fall under load
    shared_bytes       bytes of shared memory or L1
    load_lanes         threads whose loads or stores are issued
    dram_bytes         bytes of memory in a microsecond
    l2_bytes           bytes of the L2 cache in a microsecond
    l2_size            bytes of the L2 cache
    dram_size          bytes of memory
    bus_bits           bits of the bus to it
    node               microseconds from the end of a kernel to the start of the next in a CUDA graph
    sources            where these numbers come from; the first one holds for all that are not named
    """

    name: str
    title: str
    arch: str
    multiprocessors: int
    clock: float
    fp32: int
    tf32: float
    fp32_share: float
    shared_bytes: int
    load_lanes: int
    dram_bytes: float
    l2_bytes: float
    l2_size: int
    dram_size: int
    bus_bits: int
    node: float
    sources: str

    @property
    def bfloat16(self) -> float:
        """Multiply-adds in bfloat16 by `mma.sync`: twice those in TF32 on every card that has both
        (whitepaper)."""
        return 2 * self.tf32

    @property
    def is_calibrated(self) -> bool:
        """Whether the share of its float32 rate that a product reaches was measured on this card."""
        return "fp32_share: ladder" in self.sources


_MIB, _GIB = 1 << 20, 1 << 30

CARDS = {
    card.name: card
    for card in (
        Card(
            "h100",
            "NVIDIA H100 SXM 80 GB",
            *("sm_90", 132, 1980.0, 128, 0.62 * 1024, 0.77, 128, 32, 3.35e6, 5.5e6, 50 * _MIB, 80 * _GIB, 5120, 0.3),
            sources="whitepaper; tf32: whitepaper × Luo; fp32_share: ladder (51.7 of 67 TFLOP/s); l2_bytes: estimate; "
            "node: measured",
        ),
        Card(
            "a100",
            "NVIDIA A100 SXM 40 GB",
            *("sm_80", 108, 1410.0, 64, 512.0, 0.92, 128, 32, 1.555e6, 4.0e6, 40 * _MIB, 40 * _GIB, 5120, 0.3),
            sources="whitepaper; fp32_share: estimate (as on Turing, with as many lanes); l2_bytes: estimate; "
            "node: estimate (H100)",
        ),
        Card(
            "a6000",
            "NVIDIA RTX A6000",
            *("sm_86", 84, 1800.0, 128, 256.0, 0.60, 128, 16, 0.768e6, 2.5e6, 6 * _MIB, 48 * _GIB, 384, 0.3),
            sources="whitepaper; fp32_share: ladder (23.2 of 38.7 TFLOP/s); l2_bytes, node: estimate",
        ),
        Card(
            "rtx3060",
            "NVIDIA GeForce RTX 3060 12 GB",
            *("sm_86", 28, 1777.0, 128, 128.0, 0.60, 128, 16, 0.360e6, 1.2e6, 3 * _MIB, 12 * _GIB, 192, 0.3),
            sources="whitepaper; fp32_share: estimate (A6000, same chip family); l2_bytes, node: estimate",
        ),
        Card(
            "t4",
            "NVIDIA T4",
            *("sm_75", 40, 1590.0, 64, 0.0, 0.60, 64, 16, 0.320e6, 1.27e6, 4 * _MIB, 16 * _GIB, 256, 0.3),
            sources="whitepaper; shared_bytes, l2_bytes: Jia; fp32_share: Jia (the clock falls to about two thirds at "
            "70 W); node: estimate",
        ),
        Card(
            "gtx1660",
            "NVIDIA GeForce GTX 1660",
            *("sm_75", 22, 1785.0, 64, 0.0, 0.92, 64, 16, 0.192e6, 0.75e6, 1536 << 10, 6 * _GIB, 192, 0.3),
            sources="whitepaper; shared_bytes: Jia; fp32_share: estimate (RTX 2080 Super, same architecture); "
            "l2_bytes, node: estimate",
        ),
        Card(
            "rtx2080super",
            "NVIDIA GeForce RTX 2080 Super",
            *("sm_75", 48, 1815.0, 64, 0.0, 0.92, 64, 16, 0.496e6, 1.6e6, 4 * _MIB, 8 * _GIB, 256, 0.3),
            sources="whitepaper; shared_bytes: Jia; fp32_share: ladder (10.2 of 11.2 TFLOP/s); "
            "l2_bytes, node: estimate",
        ),
    )
}
"""By name. The tensor cores of sm_75 multiply float16 alone."""


def find(name: str) -> Card:
    """The card of this name. Raises `ArgumentError`."""
    card = CARDS.get(name.lower())
    if card is None:
        hint = did_you_mean(name, CARDS) or f"use one of {', '.join(CARDS)}"
        raise ArgumentError(f"card {name!r} is unknown: {hint}")
    return card
