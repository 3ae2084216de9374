"""What a kernel did wrong, in one sentence for its author."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

_NEAR = 1 << 30
"""Bytes: an address farther than this from every array is unrelated to all of them."""


class FaultKind(IntEnum):
    """GpuFaultKind of runtime.h."""

    FINE = 0
    OUTSIDE = 1
    MISALIGNED = 2
    UNINITIALISED = 3
    IN_FLIGHT = 4
    RACE = 5
    INDEX = 6
    BARRIER_MISSED = 7
    BARRIER_ELSEWHERE = 8
    BARRIER_AND_WARP = 9
    MASK_WITHOUT_SELF = 10
    MASKS_DIFFER = 11
    ASSERTION = 12
    TRAP = 13
    SEGMENTATION = 14
    STACK = 15
    DIVISION = 16


class Fault(ctypes.Structure):
    """GpuFault of runtime.h."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("write", ctypes.c_int),
        ("other_write", ctypes.c_int),
        ("size", ctypes.c_uint),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("other_block", ctypes.c_uint * 3),
        ("other_thread", ctypes.c_uint * 3),
        ("site", ctypes.c_size_t),
        ("other_site", ctypes.c_size_t),
        ("address", ctypes.c_size_t),
        ("number", ctypes.c_longlong),
        ("other_number", ctypes.c_longlong),
        ("text", ctypes.c_char * 200),
    )


@dataclass(frozen=True)
class Memory:
    """An array that the kernel may access; the `shape` of a __shared__ array is unknown."""

    name: str
    address: int
    nbytes: int
    shape: tuple[int, ...] | None
    itemsize: int

    def distance(self, address: int) -> int:
        """How many bytes the address is away from the array; 0 inside."""
        return max(self.address - address, address - (self.address + self.nbytes) + 1, 0)

    def element(self, address: int, size: int) -> str:
        """The element at an address as the source would write it: `y[0, 3]`."""
        if self.shape is None:
            width = min(size, 4) or 1
            return f"{self.name}, {width}-byte element {(address - self.address) // width}"
        index = np.unravel_index((address - self.address) // self.itemsize, self.shape)
        return f"{self.name}[{', '.join(str(int(i)) for i in index)}]"


def global_memory(name: str, address: int, host: np.ndarray) -> Memory:
    """An argument of the kernel."""
    return Memory(name, address, host.nbytes, host.shape, host.itemsize)


def shared_memory(name: str, address: int, nbytes: int) -> Memory:
    """A __shared__ array."""
    label = name if name == "dynamic shared memory" else f"__shared__ {name}"
    return Memory(label, address, nbytes, None, 4)


def sentence(fault: Fault, memory: Sequence[Memory], location: Callable[[int], str]) -> str:
    """Which thread did what, and where; `location` turns a site into file:line."""
    here, there = location(fault.site), location(fault.other_site)
    who = f"block {tuple(fault.block)}, thread {tuple(fault.thread)}"
    what = _WORDS[FaultKind(fault.kind)](fault, memory, f" at {there}" if there else "")
    return f"{who} {what}" + (f" ({here})" if here else "")


def _verb(fault: Fault) -> str:
    return "writes" if fault.write else "reads"


def _place(fault: Fault, memory: Sequence[Memory]) -> str:
    """The element at the fault's address, or which array it is nearest to."""
    holders = [m for m in memory if m.nbytes and m.distance(fault.address) == 0]
    if holders:
        return holders[0].element(fault.address, fault.size)
    nearest = min((m for m in memory if m.nbytes), key=lambda m: m.distance(fault.address), default=None)
    if nearest is None or nearest.distance(fault.address) > _NEAR:
        return f"address {fault.address:#x}"
    return f"element {(fault.address - nearest.address) // nearest.itemsize} of {nearest.name}"


def _outside(fault: Fault, memory: Sequence[Memory], _: str) -> str:
    did = f"{_verb(fault)} {fault.size} bytes outside of every array"
    nearest = min((m for m in memory if m.nbytes), key=lambda m: m.distance(fault.address), default=None)
    if fault.address < 1 << 16:
        return f"{did}, at address {fault.address:#x}: was None passed for an array that the kernel uses?"
    if nearest is None or nearest.distance(fault.address) > _NEAR:
        return f"{did}, at address {fault.address:#x}, which is near none: did an index overflow?"
    count, shape = nearest.nbytes // nearest.itemsize, ""
    if nearest.shape is not None:
        shape = f", shape {tuple(map(int, nearest.shape))}"
    element = (fault.address - nearest.address) // nearest.itemsize
    if nearest.distance(fault.address) == 0:
        behind = fault.address + fault.size - nearest.address - nearest.nbytes
        away = f"{behind} of them behind the end"
    elif element < 0:
        away = f"{nearest.address - fault.address} bytes before the start"
    else:
        away = f"{fault.address - nearest.address - nearest.nbytes} bytes behind the end"
    return f"{did}: element {element} of {nearest.name}, which has {count} ({away}{shape})"


def _misaligned(fault: Fault, memory: Sequence[Memory], _: str) -> str:
    return (
        f"{_verb(fault)} {fault.size} bytes at once, misaligned: {_place(fault, memory)} is not at a multiple of "
        f"{fault.size} bytes"
    )


def _uninitialised(fault: Fault, memory: Sequence[Memory], _: str) -> str:
    return f"reads {_place(fault, memory)}, which is uninitialised: nobody has written it"


def _in_flight(fault: Fault, memory: Sequence[Memory], _: str) -> str:
    return (
        f"{_verb(fault)} {_place(fault, memory)}, which a cp.async is still filling: no cp.async.wait_group or "
        "wait_all has waited for it"
    )


def _race(fault: Fault, memory: Sequence[Memory], there: str) -> str:
    other = "wrote" if fault.other_write else "read"
    whom = f"thread {tuple(fault.other_thread)}"
    if tuple(fault.block) != tuple(fault.other_block):
        whom += f" of block {tuple(fault.other_block)}"
        reason = "blocks of one launch are not ordered"
    else:
        reason = "no barrier lies between"
    return f"has a data race on {_place(fault, memory)}: {_verb(fault)} what {whom} {other}{there}, and {reason}"


def _index(fault: Fault, _: Sequence[Memory], __: str) -> str:
    return f"uses index {fault.number}, which is out of bounds of the array's declaration"


def _missed(fault: Fault, _: Sequence[Memory], __: str) -> str:
    return (
        f"and {fault.number - 1} more of {fault.other_number} threads wait in __syncthreads, which thread "
        f"{tuple(fault.other_thread)} has left out: it has returned; every thread must reach the barrier"
    )


def _elsewhere(fault: Fault, _: Sequence[Memory], there: str) -> str:
    return (
        f"waits in __syncthreads while thread {tuple(fault.other_thread)} waits in another one{there}: "
        "the barriers diverge; every thread must reach the same one"
    )


def _barrier_and_warp(fault: Fault, _: Sequence[Memory], there: str) -> str:
    return (
        f"waits in a barrier while thread {tuple(fault.other_thread)} waits in a warp operation{there}, "
        "for lanes that never come: a deadlock"
    )


def _without_self(fault: Fault, _: Sequence[Memory], __: str) -> str:
    return f"calls a warp operation whose mask {fault.number:#010x} does not name the calling lane"


def _masks(fault: Fault, _: Sequence[Memory], there: str) -> str:
    return (
        f"calls a warp operation with mask {fault.number:#010x} while thread {tuple(fault.other_thread)} of its warp "
        f"waits with mask {fault.other_number:#010x} or in another operation{there}"
    )


def _assertion(fault: Fault, _: Sequence[Memory], __: str) -> str:
    return f"fails the assertion {fault.text.decode()}"


def _trap(_: Fault, __: Sequence[Memory], ___: str) -> str:
    return "stops in a trap"


def _segmentation(fault: Fault, _: Sequence[Memory], __: str) -> str:
    null = ": was None passed for an array that the kernel uses?" if fault.address < 1 << 16 else ""
    return (
        f"accesses address {fault.address:#x}, where there is no memory{null or ': an index is far out of bounds'}; "
        "mode='check' names the array"
    )


def _stack(_: Fault, __: Sequence[Memory], ___: str) -> str:
    return "needs more than 64 KiB for its local variables"


def _division(_: Fault, __: Sequence[Memory], ___: str) -> str:
    return "divides an integer by zero"


_WORDS: dict[FaultKind, Callable[[Fault, Sequence[Memory], str], str]] = {
    FaultKind.OUTSIDE: _outside,
    FaultKind.MISALIGNED: _misaligned,
    FaultKind.UNINITIALISED: _uninitialised,
    FaultKind.IN_FLIGHT: _in_flight,
    FaultKind.RACE: _race,
    FaultKind.INDEX: _index,
    FaultKind.BARRIER_MISSED: _missed,
    FaultKind.BARRIER_ELSEWHERE: _elsewhere,
    FaultKind.BARRIER_AND_WARP: _barrier_and_warp,
    FaultKind.MASK_WITHOUT_SELF: _without_self,
    FaultKind.MASKS_DIFFER: _masks,
    FaultKind.ASSERTION: _assertion,
    FaultKind.TRAP: _trap,
    FaultKind.SEGMENTATION: _segmentation,
    FaultKind.STACK: _stack,
    FaultKind.DIVISION: _division,
}
