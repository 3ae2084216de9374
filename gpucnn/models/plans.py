"""Forward passes that are recorded once for each shape of a batch and then replayed.

A plan keeps all its arrays, so a batch has one only if they are few. A larger one is computed in parts
that have one: their arrays stay in the caches between the layers, and filters are prepared once.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..devices import choose, forks, storage, threads
from ..devices.cpu import CPU
from ..dispatch.tape import Tape
from .node import Node
from .training_step import NO_STEP, run_forward

PLANNED_BYTES, MOST_THREADS = 6 << 20, 8
"""A plan is kept if its arrays take at most this much memory for each thread, of so many at most. That is more than
the caches nearest to a core hold, but without a plan filters are prepared in each call."""

PREPARED_BYTES = 64 << 20
"""And at most so much more for filters as the kernels read them, with copies of the weights."""

PLANNED_PART = 64
"""On a GPU, a plan is kept if it takes at most this part of the memory that was free."""

MOST_PLANS = 8
"""Plans for so many shapes are kept, those that were used last."""

Shape = tuple[int, ...]
Folds = Sequence[Callable[[], None]]

changing = threading.RLock()
"""Held while the plans of any model change, and over forks, since a child has to find them whole."""
forks.hold(changing, outermost=True)


class Program:
    """Nodes that run one after the other, from Python or from plans.

    nodes       what an output is computed by
    folds       functions that compute the weights of these nodes from those of the layers
    recordable  whether ops compute all of it
    plans       those that no thread is using, by the shape of their input
    """

    def __init__(self, nodes: list[Node], folds: Folds, recordable: bool) -> None:
        self.nodes, self.folds, self.recordable = nodes, folds, recordable
        self.plans: OrderedDict[Shape, list[_Plan | _Graph]] = OrderedDict()
        self._excess: dict[Shape, float] = {}

    def __call__(self, x: np.ndarray, compared: set[Any] | None = None) -> np.ndarray:
        """The output for one batch, on the host, in an array that the caller may keep. A plan in `compared` knows
        that no weight has changed, and one that does not is put there."""
        if x.shape in self._excess:
            return self.directly(x)
        plan = self.free_plan(x.shape)
        if plan is None:
            y = self.directly(x)
            self._add_plan(x, y)
            return y
        y = plan(x, unchanged=compared is not None and plan in compared)
        if compared is not None:
            compared.add(plan)
        self.keep_plan(x.shape, plan)
        return y

    def fold(self) -> None:
        """Compute the weights of the nodes from those of the layers."""
        for fold in self.folds:
            fold()

    def directly(self, x: np.ndarray) -> np.ndarray:
        """The output without a plan."""
        self.fold()
        return storage.get(run_forward(self.nodes, storage.put(x), storage.put(NO_STEP))[0])

    def excess(self, shape: Shape) -> float:
        """How many times the memory of a plan would be needed for such a batch; 0 if that is not known, or if
        there is another reason to have none."""
        return self._excess.get(shape, 0.0)

    def free_plan(self, shape: Shape) -> _Plan | _Graph | None:
        """A plan that no other thread is using, which is the caller's now; None if there is none."""
        with changing:
            free = self.plans.get(shape)
            return free.pop() if free else None

    def keep_plan(self, shape: Shape, plan: _Plan | _Graph) -> None:
        """Take back a plan."""
        with changing:
            self.plans.setdefault(shape, []).append(plan)
            self.plans.move_to_end(shape)
            while len(self.plans) > MOST_PLANS:
                self.plans.popitem(last=False)

    def by_plans(self, x: np.ndarray, size: int) -> np.ndarray | None:
        """The output for batches of `size` of float32 or bytes; None if no plan is free for one of them. Whether a
        weight has changed is looked up once for each plan, not for each batch."""
        counts = {min(size, len(x)), (len(x) - 1) % size + 1}
        plans = {count: plan for count in counts if (plan := self.free_plan((count, *x.shape[1:]))) is not None}
        y = None
        if len(plans) == len(counts):
            with threads.one_blas_thread() if any(plan.may_call_blas for plan in plans.values()) else nullcontext():
                y = _one_after_the_other(plans, x, size)
        for count, plan in plans.items():
            self.keep_plan((count, *x.shape[1:]), plan)
        return y

    def _add_plan(self, x: np.ndarray, y: np.ndarray) -> None:
        """Keep a plan for such batches if it gives the same bits for `x`: it was recorded for zeros, so
        that it cannot do so if some layer computes outside of ops."""
        excess = 0.0
        if self.recordable:
            of_device = _Plan if choose.current() is CPU else _Graph
            plan = of_device(self, x.shape)
            if plan.complete and plan(x).tobytes() == y.tobytes():
                self.keep_plan(x.shape, plan)
                return
            excess = plan.excess
        self._excess[x.shape] = excess


def _one_after_the_other(plans: dict[int, Any], x: np.ndarray, size: int) -> np.ndarray:
    """The output for batches of `size`, each by the plan for as many images."""
    if len(x) <= size:
        return plans[len(x)](x.astype(np.float32, copy=False))
    y, compared = np.empty((len(x), *plans[size].output_shape[1:]), np.float32), set()
    for start in range(0, len(x), size):
        batch = x[start : start + size].astype(np.float32, copy=False)
        plan = plans[len(batch)]
        y[start : start + size] = plan(batch, unchanged=plan in compared, copies=False)
        compared.add(plan)
    return y


class _Plan:
    """Launches for inputs of one shape.

    complete  whether it can be replayed
    excess    how many times the memory allowed it needs, where that is too much; otherwise 0
    """

    def __init__(self, program: Program, shape: Shape) -> None:
        most = PLANNED_BYTES * min(threads.in_use(), MOST_THREADS)
        x, self._tape = storage.zeros(shape), Tape(most, PREPARED_BYTES)
        with self._tape.recording():
            program.fold()
            self._y = run_forward(program.nodes, x, NO_STEP)[0]
        self._tape.end(x)
        self.may_call_blas, self.complete = self._tape.may_call_blas, self._tape.complete
        self.excess = excess if (excess := self._tape.allocated_bytes / most) > 1 else 0.0
        self.output_shape = self._y.shape

    def __call__(self, x: np.ndarray, unchanged: bool = False, copies: bool = True) -> np.ndarray:
        """The output; without a copy, an array that the next call overwrites. `unchanged` says that no weight has
        changed since the last call."""
        self._tape.replay(x, unchanged)
        return self._y.copy() if copies else self._y


class _Graph:
    """The launches of a GPU for inputs of one shape, on fixed arrays.

    complete  whether it needs little memory
    """

    may_call_blas, excess = False, 0.0

    def __init__(self, program: Program, shape: Shape) -> None:
        free = choose.current().free_bytes
        before = free()
        self._x, step = storage.zeros(shape), storage.put(NO_STEP)

        def compute() -> None:
            self._y = run_forward(program.nodes, self._x, step)[0]

        self._replay = choose.current().record(compute)
        self.complete = before is None or before - (free() or 0) <= before // PLANNED_PART
        self.output_shape = self._y.shape

    def __call__(self, x: np.ndarray, unchanged: bool = False, copies: bool = True) -> np.ndarray:
        """The output, in an array of the caller."""
        storage.write(self._x, x)
        self._replay()
        return storage.get(self._y)


class Parted:
    """A program that computes a batch too large for a plan in parts, up to the first of its nodes that may
    round otherwise for another number of images; from there on the whole batch.

    nodes, folds, recordable  as for `Program`
    head                      the first of the nodes that take the whole batch
    """

    def __init__(self, nodes: list[Node], folds: Folds, recordable: bool, head: int) -> None:
        self.whole = Program(nodes, folds, recordable)
        self._trunk, self._head = Program(nodes[:head], folds, recordable), Program(nodes[head:], (), recordable)

    def __call__(self, x: np.ndarray, compared: set[Any] | None = None) -> np.ndarray:
        """The output for one batch, on the host, in an array that the caller may keep; `compared` as in `Program`."""
        count = self._parts(x.shape)
        if count == 1:
            return self.whole(x, compared)
        bounds = [len(x) * i // count for i in range(count + 1)]
        y = np.concatenate([self._trunk(x[start:end], compared) for start, end in itertools.pairwise(bounds)])
        return self._head(y, compared) if self._head.nodes else y

    def _parts(self, shape: Shape) -> int:
        """In how many parts a batch is computed: in one, or in nearly equal ones of `threads.SLICES` images at
        least, as kernels may choose otherwise for fewer, and results be rounded otherwise."""
        images, *image = shape
        parts, excess = 1, self.whole.excess(shape) if self._trunk.nodes else 0.0
        while excess > 1:
            parts = min(parts * 2 ** math.ceil(math.log2(excess)), images // threads.SLICES)
            if parts < 2:
                return 1
            excess = self._trunk.excess((-(-images // parts), *image))
            if excess > 1 and parts == images // threads.SLICES:
                return 1
        return parts
