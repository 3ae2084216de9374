"""What a CUDA driver reports of a card."""

from __future__ import annotations

from dataclasses import dataclass

from ...cards import MULTIPROCESSORS, find

_REPORTED = {"sm_90": 80}
"""The compute capability of a card whose own the emulator's kernels are not compiled for."""


@dataclass(frozen=True)
class Limits:
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


def limits(name: str) -> Limits:
    """The limits of the card of this name. Raises `ArgumentError`."""
    card = find(name)
    each = MULTIPROCESSORS[card.arch]
    return Limits(
        card.title,
        _REPORTED.get(card.arch) or int(card.arch.removeprefix("sm_")),
        card.multiprocessors,
        each.shared_bytes - each.reserved_shared_bytes,
        each.shared_bytes,
        each.threads,
        each.blocks,
        round(1e3 * card.clock),
        round(1e3 * card.dram_bytes * 8 / card.bus_bits / 2),  # two transfers in a cycle
        card.bus_bits,
        card.l2_size,
        card.dram_size,
    )
