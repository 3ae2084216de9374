"""The cards whose limits the emulated GPU can take, from NVIDIA's published data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A GPU's name and limits. Shared memory is in bytes, clocks are in kHz; `cc` is the compute
    capability that the emulated GPU reports."""

    name: str
    cc: int
    multiprocessors: int
    shared_per_block: int
    shared_per_multiprocessor: int
    threads_per_multiprocessor: int
    blocks_per_multiprocessor: int
    clock: int
    memory_clock: int
    bus_bits: int
    l2_bytes: int
    memory_bytes: int


CARDS = {
    "h100": Card("H100 SXM", 80, 132, 227 << 10, 228 << 10, 2048, 32, 1_980_000, 2_619_000, 5120, 50 << 20, 80 << 30),
    "rtx3060": Card("RTX 3060", 86, 28, 99 << 10, 100 << 10, 1536, 16, 1_777_000, 7_501_000, 192, 3 << 20, 12 << 30),
    "t4": Card("T4", 75, 40, 64 << 10, 64 << 10, 1024, 16, 1_590_000, 5_001_000, 256, 4 << 20, 16 << 30),
    "gtx1660": Card("GTX 1660", 75, 22, 64 << 10, 64 << 10, 1024, 16, 1_785_000, 4_001_000, 192, 3 << 19, 6 << 30),
}
"""By the name for `--card`. An H100 reports 8.0, for which the emulator's kernels are compiled."""
