"""How long a launch would take on a card that is not here: counted from its machine code, its grid and
the memory that it touches. A prediction, never a measurement.

A kernel that sums products spends its time in its main loop. One turn of a warp keeps each unit busy
for some cycles: instructions / 4 schedulers, multiply-adds / FP32 lanes, integer operations / 64,
passes through shared memory, HMMA / rate of the tensor cores, and the latency of the loads for the
next turn, divided among the warps that are resident. The number of turns follows from the work; blocks
come in rounds of as many as fit. Every other kernel moves bytes: through L2, and from DRAM what earlier
kernels have not left in L2.

Units work side by side, the better the more warps a scheduler has to choose from (`OVERLAP`).

Accuracy: of 118 kernels in later training steps on an H100, partly others in other tiles, those of more
than 5 µs differed by 17 % (root mean square), nine in ten by at most 28 %, and the steps by at most
13 %. Of those that came after them, `conv2d/halo` took less by 27 to 35 % than predicted in TF32, and
the gradient of cifar's weight in float32 (178 µs) nearly twice as long. On other cards, compared with
public times alone (`tests/profiling` has the rows): throughput-bound kernels in float32 ± 25 %, others
± 60 %. Not modelled: clocks that fall under load, hit rates of L1, kernels that overlap.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from ..devices.cards import Card
from ..devices.cuda import CudaFunction
from . import instruction_mix
from .instruction_mix import Access, Mix, bytes_loaded, cycles, flops
from .launches import Copy, Launch, Region

START = 1.6
"""Microseconds that any kernel takes: it is started, fetches its code and its first operands, and
drains. This and the next two are fitted to 159 kernels in training steps on an H100."""

OVERLAP, OVERLAP_OF_A_WARP = 1.5, 0.4
"""How well units work side by side: their times add up as a norm of this order, or, where a scheduler has
several warps, of so much for each; 1 would be one unit after the other, infinity the busiest alone."""

_ARITHMETIC = ("issue", "FP32", "integer", "MUFU")
"""Units that are fed by one issue slot: the busiest of them counts."""

_SHARED = ("L2", "DRAM")
"""Units of the whole card; each multiprocessor has the others."""

LATENCY = 420
"""Cycles from a load of global memory, mostly from L2, to the barrier after which all threads see
it."""

ALONE = 1.26
"""The time of a warp that has a scheduler to itself, as a multiple of its share among several: it
waits for its own loads from shared memory. Seen in training steps on an H100."""

_DRAM_SHARE = 0.9
"""Of the bandwidth on paper that a kernel reaches: 3.0 of 3.35 TB/s on an H100."""

_SCHEDULERS = 4

_THROUGHPUT = ("issue", "FP32", "integer", "MUFU", "shared memory")
_LONG = 5.0
WELL_KNOWN, UNKNOWN = 0.25, 0.6
"""The relative errors to expect: of kernels that take at least 5 µs, on cards whose float32 rate was
measured, and are bound by units that compute; and of all others."""


@dataclass(frozen=True)
class Node:
    """One node of a step: a launch or a copy. Times are predicted, in microseconds.

    flops         useful floating-point operations, by the op's definition
    executed      those that the kernel executes in its main loop, padding included
    nbytes        bytes touched
    dram          of these, bytes that are not in L2
    waves         blocks divided by those that the card holds at a time
    limits        by name, how long each unit alone would be busy
    overlap       how well they work side by side: `OVERLAP`
    calibrated    whether the rates of the card were compared with measured times
    branch        the number of the branch of the graph that the node is on; 0 on none
    beside        the number of the branch next to which it runs; 0 next to none
    """

    kernel: str
    op: str
    function: str
    blocks: int
    threads: int
    flops: float
    executed: float
    nbytes: int
    dram: int
    waves: float
    limits: dict[str, float]
    overlap: float
    calibrated: bool
    branch: int = 0
    beside: int = 0

    @property
    def microseconds(self) -> float:
        """From the start of the kernel to its end."""
        return _time(self.limits, self.overlap)

    @property
    def bottleneck(self) -> str:
        """The unit that is busy longest; "start" if that is shorter than starting the kernel."""
        name = max(self.limits, key=lambda unit: self.limits[unit], default="start")
        return name if self.limits.get(name, 0.0) > START else "start"

    @property
    def tolerance(self) -> float:
        """The relative error to expect."""
        throughput = self.calibrated and self.bottleneck in _THROUGHPUT and self.microseconds > _LONG
        return WELL_KNOWN if throughput else UNKNOWN


class Cache:
    """Which allocations are in L2: those that were touched last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[int, int] = OrderedDict()

    def touch(self, regions: Iterable[Region]) -> int:
        """Bytes of these regions that are not there; they are afterwards."""
        missing = 0
        for region in regions:
            held = self._held.pop(region.allocation, 0)
            missing += max(region.nbytes - held, 0)
            self._held[region.allocation] = min(max(held, region.nbytes), self._size)
            while sum(self._held.values()) > self._size:
                self._held.popitem(last=False)
        return missing


def of_step(nodes: Sequence[Launch | Copy], card: Card, access: Access | None = None) -> list[Node]:
    """The nodes of something that is repeated, such as a step of training, in their order."""
    cache = Cache(card.l2_size)
    for node in nodes:
        cache.touch(node.regions)
    return [_node(node, cache.touch(node.regions), card, access) for node in nodes]


def total(nodes: Sequence[Node], card: Card) -> float:
    """Microseconds of all nodes in a CUDA graph: one after the other, but a branch and the nodes beside it take
    as long as the longer of both, and no less than their blocks need that share the room of all multiprocessors,
    or than the work of both that keeps each unit busy there.

    None of this was measured: blocks of both sides are taken to fit together without loss, and a fork and a join to
    cost nothing.
    """
    chain = sum(card.node + node.microseconds for node in nodes if not node.branch and not node.beside)
    for number in {node.branch or node.beside for node in nodes} - {0}:
        sides = [node for node in nodes if node.branch == number], [node for node in nodes if node.beside == number]
        alone = (sum(card.node + node.microseconds for node in side) for side in sides)
        both = [*sides[0], *sides[1]]
        chain += max(*alone, card.node + _in_turns(both), card.node + _busy(both, card))
    return chain


def _in_turns(nodes: Sequence[Node]) -> float:
    """Microseconds of nodes whose blocks fill all multiprocessors, as many as fit."""
    return sum(node.microseconds * node.waves / ceil(node.waves) for node in nodes if node.waves)


def _busy(nodes: Sequence[Node], card: Card) -> float:
    """Microseconds of nodes at the same time, with each unit busy on all multiprocessors."""
    limits: dict[str, float] = {}
    for node in nodes:
        rounds = ceil(node.blocks / card.multiprocessors)
        used = node.blocks / (rounds * card.multiprocessors) if rounds else 1.0
        for unit, spent in node.limits.items():
            if unit != "latency":
                limits[unit] = limits.get(unit, 0.0) + spent * (1.0 if unit in _SHARED else used)
    return _time(limits, max(node.overlap for node in nodes))


def _time(limits: dict[str, float], overlap: float) -> float:
    units = {name: spent for name, spent in limits.items() if name not in _ARITHMETIC}
    units["arithmetic"] = max(limits.get(name, 0.0) for name in _ARITHMETIC)
    return START + sum(spent**overlap for spent in units.values()) ** (1 / overlap)


def _node(node: Launch | Copy, missing: int, card: Card, access: Access | None) -> Node:
    places = node.branch, node.beside
    touched = sum(region.nbytes for region in node.regions)
    if isinstance(node, Copy):
        limits = _memory(touched, missing, card)
        return Node("copy", "", "", 0, 0, 0.0, 0.0, touched, missing, 0.0, limits, OVERLAP, False, *places)
    mix = instruction_mix.of_launch(node, card.arch)
    call = node.call
    if call and call.kernel.op.inplace:  # read, and written back
        touched, missing = 2 * touched, 2 * missing
    limits = _memory(touched, missing, card)
    executed, useful = 0.0, 0.0
    if mix.main and (call is None or call.kernel.op.terms):
        loop = _main_loop(mix, node)
        turns, longest = _turns(loop, node)
        executed = float(flops(loop)) * turns * node.blocks * node.threads
        useful = call.flops if call else executed
        limits |= _product(mix, loop, turns, longest, node, card, access)
    else:
        limits |= _streaming(mix, node, touched, card)
    resident = min(ceil(node.blocks / card.multiprocessors), max(mix.resident, 1))
    return Node(
        call.kernel.id if call else node.function.name,
        call.kernel.op.name if call else "",
        node.function.name,
        node.blocks,
        node.threads,
        useful,
        executed,
        touched,
        missing,
        node.blocks / (card.multiprocessors * mix.resident),
        limits,
        max(OVERLAP, OVERLAP_OF_A_WARP * resident * ceil(node.threads / 32) / _SCHEDULERS),
        card.is_calibrated,
        *places,
    )


def _memory(touched: int, missing: int, card: Card) -> dict[str, float]:
    return {"L2": touched / card.l2_bytes, "DRAM": missing / (card.dram_bytes * _DRAM_SHARE)}


def _main_loop(mix: Mix, launch: Launch) -> dict[str, int]:
    """The main loop that runs: the one with loads of 128 bits if the rows of all operands are quads of
    values, else the one with fewest of them."""
    operands = [a.shape for a in launch.arguments if len(getattr(a, "shape", ())) > 1][1:]

    def wide(loop: dict[str, int]) -> int:
        return sum(n for name, n in loop.items() if name.startswith("LDG") and ".128" in name)

    quads = all(shape[-1] % 4 == 0 for shape in operands)
    widest = (max if quads else min)(map(wide, mix.main))
    return min((loop for loop in mix.main if wide(loop) == widest), key=lambda loop: sum(loop.values()))


def _turns(loop: dict[str, int], launch: Launch) -> tuple[float, float]:
    """How often a thread goes through the main loop, on the average and in the longest block: once for
    each slab of its part of a sum, or as the work of the call demands."""
    function, call = launch.function, launch.call
    each = flops(loop) * launch.threads
    if call and call.kernel.executed:
        total, longest = call.kernel.executed(*call.operands, **call.params)
        return total / (each * launch.blocks), longest / each
    if isinstance(function, CudaFunction) and "TILE_K" in function.defines:
        names = function.parameter_names()
        if "length" in names:
            turns = ceil(int(launch.arguments[names.index("length")]) / function.defines["TILE_K"])
            return turns, turns
    turns = max(1, ceil((call.flops if call else 0.0) / (each * launch.blocks)))
    return turns, turns


def _product(
    mix: Mix,
    loop: dict[str, int],
    turns: float,
    longest: float,
    launch: Launch,
    card: Card,
    access: Access | None,
) -> dict[str, float]:
    """By unit, microseconds of the multiprocessor with most blocks, and no less than those of the
    longest block alone."""
    warps, blocks = ceil(launch.threads / 32), ceil(launch.blocks / card.multiprocessors)
    turn, around = cycles(loop, card, access), cycles(mix.straight, card)
    latency = LATENCY / _slabs_ahead(launch) if bytes_loaded(loop) else 0.0
    limits = dict.fromkeys((*turn, "latency"), 0.0)
    while blocks:
        resident = min(blocks, max(mix.resident, 1))
        blocks -= resident
        share = _share(resident * warps)
        for unit in turn:
            limits[unit] += share * (turns * turn[unit] + around[unit])
        limits["latency"] += (turns + 2) * latency
    for unit in turn:
        limits[unit] = max(limits[unit], _share(warps) * (longest * turn[unit] + around[unit]))
    limits["latency"] = max(limits["latency"], (longest + 2) * latency)
    return {unit: spent / card.clock for unit, spent in limits.items()}


def _share(warps: int) -> float:
    """Warps that a multiprocessor serves one after the other, counted by its busiest scheduler."""
    each = ceil(warps / _SCHEDULERS)
    return _SCHEDULERS * (ALONE if each == 1 else each)


def _slabs_ahead(launch: Launch) -> int:
    """How many turns ahead the loads of a turn are started."""
    stages = launch.function.defines.get("STAGES", 2) if isinstance(launch.function, CudaFunction) else 2
    return max(1, stages - 1)


def _streaming(mix: Mix, launch: Launch, touched: int, card: Card) -> dict[str, float]:
    """The same for a kernel that moves bytes."""
    warps = ceil(launch.threads / 32)
    loaded = bytes_loaded(mix.streaming)
    turns = ceil(touched / 2 / (loaded * launch.blocks * launch.threads)) if loaded else 0
    blocks = ceil(launch.blocks / card.multiprocessors)
    rounds = ceil(blocks / max(mix.resident, 1))
    turn, once = cycles(mix.streaming, card), cycles(mix.straight, card)
    limits = {unit: _share(blocks * warps) * (turns * turn[unit] + max(once[unit] - turn[unit], 0.0)) for unit in turn}
    limits["latency"] = max(rounds * (turns + 1) - 2, 0) * LATENCY
    return {unit: spent / card.clock for unit, spent in limits.items()}
