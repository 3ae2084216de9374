"""Steps of training that several processes compute in parts, each on a GPU, recorded with the exchange of
gradients.

All ranks find the same losses, but a rank with a progress bar or a callback that saves looks at them more
often than the others. Steps are run again only where all ranks look: those run in step with each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..devices import branches, choose
from ..distributed import Group
from ..errors import TrainingError
from ..layers.layer import leaves
from . import parts
from .batches import Arrays, Batch
from .model import Model
from .resident_steps import Glimpse, ResidentSteps
from .training_step import TrainingStep

LARGE = 1 << 20
"""Bytes of gradients from which on those of the last layers, half of them or more, are added up during the backward
pass through the others: the model of bench/scaling.md predicts steps that are 2 to 12 % shorter on 2 to 1,024 GPUs.
With fewer bytes, a second exchange takes longer than it hides on many GPUs."""


class ResidentParts(ResidentSteps):
    """The training of one model on one set of arrays, by the ranks of a group.

    Of each batch, a rank computes its part. The sums of all gradients, and the losses and predictions of
    the whole batch, are on every GPU when the batch is done.
    """

    def __init__(
        self, model: Model, step: TrainingStep, data: Arrays, count: Callable[[Batch, float], None], group: Group
    ) -> None:
        self._group = group
        super().__init__(model, step, data, count, self._own)

    def _own(self, rows: int) -> slice:
        """The rows of this rank; the first one of the batch, without effect, if it has none."""
        return slice(0, 1) if self._is_idle(rows) else self._group.own_rows(rows)

    def _is_idle(self, rows: int) -> bool:
        own = self._group.own_rows(rows)
        return own.start == own.stop

    def record(self, launch: Callable[[], None]) -> Callable[[], None]:
        """As ever, and under watch when it is repeated."""
        repeat = super().record(launch)

        def watched() -> None:
            with self._group.gpu_sums.watched():
                repeat()

        return watched

    def compute(self, rows: int, place: int) -> Any:
        """The part of this rank, then the sums."""
        own, is_idle = self.own(rows), self._is_idle(rows)
        left: list[Any] = [of.now[place, :rows] for name, of in self.places.items() if name != "penalty"]
        for array in left:
            array[...] = 0
        first, start = self._last_layers()

        def gradients_done(node: int) -> None:
            if node == first:
                branches.join()
                parameters = self.model.parameters
                spans = parameters.trainable_spans()
                self._add_up([parameters.gradients[max(start, s.start) : s.stop] for s in spans], is_idle, beside=True)

        self.gradients_done = gradients_done
        with parts.placed(self.step, self._group, own, rows, is_idle):
            row = super().compute(rows, place)
        summands = parts.summands(self.model, own, rows, start)
        self._add_up([*summands, *left], is_idle)
        parts.put_back_statistics(self.model, summands[-1])
        return row

    def _add_up(self, arrays: list[Any], is_idle: bool, beside: bool = False) -> None:
        if is_idle:
            for array in arrays:
                array[...] = 0
        self._group.gpu_sums.add_up(arrays, beside)

    def _last_layers(self) -> tuple[int, int]:
        """(the node, the element of the flat gradients) with which the last layers begin whose gradients are added
        up early; (-1, the number of elements) if none are."""
        segments = [segment for segment in self.model.parameters.segments if segment.trainable]
        total, rest, end = sum(s.size for s in segments), 0, self.model.parameters.gradients.size
        nodes = list(enumerate(self.step.nodes())) if 4 * total >= LARGE else []
        for number, node in reversed(nodes):
            held = [s for s in segments if any(s.layer is layer for layer in leaves(node.layers))]
            rest += sum(s.size for s in held)
            if 2 * rest >= total and rest < total:
                return number, min(s.offset for s in held)
        return -1, end

    def is_full(self, stop: int) -> bool:
        """The same on all ranks."""
        return stop - self.kept_at > self.slots

    def collect(self) -> None:
        """Take in the losses and predictions of all batches since the last look.

        Raises `TrainingError`: where all ranks look, with the model as it was before the batch.
        """
        self.settle()
        batches, together = self.pending(self.done), self._all_look()
        needed = batches or (together and self.kept_at < self.done)
        norms = self.norms() if needed else []
        left = self.left()
        if needed and self.take_in(batches, left, norms) and together:
            self.keep()

    def glance(self) -> None:
        """Take in the batches before the last glance, unless a loss is not finite, and note those before this one."""
        self.settle()
        count = self.done - self.read
        if count:
            fetch = choose.current().fetch(
                [place.copies(self.read - self.origin, count) for place in self.places.values()]
            )
            self.glimpse = Glimpse(self.done, list(self.places), fetch, {})

    def settle(self) -> None:
        """Take in what the last glance has noted, if all is finite."""
        glimpse, self.glimpse = self.glimpse, None
        if glimpse is None:
            return
        left: dict[str, np.ndarray] = dict(zip(glimpse.names, glimpse.fetch.wait(), strict=True))
        batches = self.pending(glimpse.stop)
        totals = self.totals(batches, left)
        if all(map(math.isfinite, totals)):
            self.count_in(batches, totals, left)
            self.read = glimpse.stop

    def run_again(self) -> None:
        """Run the batches since the last common look one by one, if this is another one."""
        if not self._all_look():
            state = self.model.training_state
            raise TrainingError(
                f"a loss or a weight is not finite after epoch {state.epoch + 1}, batch {self.done - 1} (counted from "
                "0): lower the learning rate, clip gradients (clipnorm=1.0), and look for NaN in x and y"
            )
        super().run_again()

    def _all_look(self) -> bool:
        """Whether all ranks look at what the batches before `done` have left, before they go on."""
        following = self.coming.get(self.done)
        return following is None or self.is_full(self.done + following)
