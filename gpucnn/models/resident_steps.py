"""Steps of training that do not wait for the host.

The numbers of each update come from a table on the device. If a loss, a weight or a number of the
optimizer turns out not to be finite, the state at the last look is restored, and the steps since
then are run one by one: the error and the weights are as if nothing had been recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from .. import losses, random
from ..devices import choose, storage
from ..devices.fetch import Fetch
from ..layers.layer import every
from ..ops.update import norm_parts
from . import parts, resident
from .batches import Arrays, Batch, Batches
from .compile_settings import CompileSettings
from .model import Model
from .resident import ALL, Part, Place, Resident, Turn
from .targets import Targets
from .training_step import TrainingStep

_TAKEN_IN = 64
"""After so many batches, their losses and metrics are computed on the host while the device is at work."""


def obstacle(model: Model, settings: CompileSettings, data: Batches, tolerant: bool) -> str | None:
    """Why steps of training cannot be recorded, or None if they can."""
    loss, optimizer = settings.loss, settings.optimizer
    assert loss is not None
    reason = parts.obstacle(model) or resident.obstacle(model, data, loss)
    if reason is not None:
        return reason
    if tolerant:
        return "TerminateOnNaN looks at every loss"
    if data.weight is not None and loss.reduction == "mean_with_sample_weight":  # type: ignore[union-attr]
        return "the reduction mean_with_sample_weight divides each batch by its own weights"
    return resident.changing(model, optimizer)


@dataclass
class _Plan:
    """The learning rates of the batches from `first` on, and the optimizer's counters after each of them."""

    first: int
    rates: list[float]
    after: list[dict[str, Any]]


class Glimpse(NamedTuple):
    """What the batches before `stop` have left, on its way to the host: places by name, then norms; the
    optimizer's counters after them."""

    stop: int
    names: list[str]
    fetch: Fetch
    counters: dict[str, np.ndarray]


class ResidentSteps(Resident):
    """The training of one model on one set of arrays.

    count   receives each batch and its loss, in order, when results are collected
    own     chooses the rows of a batch that this process computes; all by default
    """

    def __init__(
        self, model: Model, step: TrainingStep, data: Arrays, count: Callable[[Batch, float], None], own: Part = ALL
    ) -> None:
        rows, outputs = data.batch_size, model.output_shape[1:]
        places = {"losses": (rows, *outputs[:-1])}
        if step.metrics:
            places["prediction"] = (rows, *outputs)
        several = step.settings.steps_per_execution
        super().__init__(model, data, places, resident.TOGETHER if several == "auto" else several, own)
        step.nodes()
        self.step, self._count = step, count
        self.gradients_done: Callable[[int], None] = lambda node: None
        """Called when the gradients of the nodes from this number on are final."""
        self.rehearse_test: Callable[[], None] = lambda: None
        """Launches once what is done with batches of the validation data."""
        self._targets = Targets(step.loss(), data, model.output_shape)
        sizes = {self.rows_of(0), self.rows_of(self.steps - 1)}
        self._factors = {size: storage.put(self._make_factors(size)) for size in sizes}
        self._rows: Any = None
        self._plan = _Plan(0, [], [])
        self._kept: list[tuple[Any, Any]] = []
        self._spare: list[tuple[Any, Any]] = []
        self.glimpse: Glimpse | None = None
        self._kept_counters: dict[str, np.ndarray] = {}
        self._kept_measures: tuple[list[dict[str, np.ndarray]], float, float] = ([], 0.0, 0.0)
        self.kept_at = 0
        """The batch before which the copies were made."""

    def replace(self, data: Arrays) -> bool:
        """Take these arrays, if they are alike."""
        if not super().replace(data):
            return False
        self._targets.replace(data)
        for size, factors in self._factors.items():
            storage.write(factors, self._make_factors(size))
        return True

    def epoch(self, first: int, stop: int, epoch: int, seed: int, shuffle: bool, together: int) -> Iterator[Turn]:
        """Functions that train on the batches from number `first` to `stop`, and how many each trains on.

        epoch, seed  choose the order of the samples, if they are shuffled
        together     how many batches a function may train on; with 1, callbacks may change the model
                     and the optimizer between two batches
        """
        samples = len(self.data.x)
        self.order = cache(lambda: random.permutation(samples, seed=seed, epoch=epoch) if shuffle else None)
        self.chosen = {"seed": seed, "stream": 0, "shuffle": shuffle}
        self.start(first, epoch, int(self.step.settings.optimizer.batches[0]))
        self._plan_from(first)
        self.keep()
        for number, count in self.turns(first, stop, together):
            yield partial(self._train, number, count), count

    def _train(self, number: int, count: int) -> None:
        changed = self._renew()
        if changed or self.step.settings.optimizer.learning_rate != self._plan.rates[number - self._plan.first]:
            self._plan_from(number)
        self.replay(number, count)
        self.step.settings.optimizer.set_counters(self._plan.after[number + count - 1 - self._plan.first])
        noted = self.read if self.glimpse is None else self.glimpse.stop
        if (self.step.metrics or self._targets.weighted) and self.done - noted >= _TAKEN_IN:
            self.glance()

    def rehearse(self) -> None:
        """Steps, the look at what they change, and what follows an epoch."""
        super().rehearse()
        self.norms()
        self.rehearse_test()

    def launch(self, rows: int, place: int) -> None:
        """The whole step."""
        row = self.compute(rows, place)
        for layer in self.model.layers:
            layer.update()
        self.step.settings.optimizer.change_weights(self.model.parameters, row)

    def compute(self, rows: int, place: int) -> Any:
        """The gradients, and what the batch leaves; returns the numbers of the update."""
        step, optimizer, parameters = self.step, self.step.settings.optimizer, self.model.parameters
        own, factors, weighted = self.own(rows), self._factors[rows], self.data.weight is not None
        operands = self._targets.all, factors if weighted else None, self._rows
        x, labels, weights, row = self.gather(rows, place, *operands)
        # without weights, all factors are equal
        factors = (weights if weighted else factors[: own.stop - own.start]).reshape(-1)
        losses, expected = self.places["losses"].now[place, own], self._targets.by_output(labels)
        target = losses if choose.current().takes(losses) else None
        x, values, gradient, backwards = step.outputs(x, self.step_of(place), expected, factors, target)
        if values is not target:
            losses[...] = values.reshape(x.shape[:-1])
        if step.metrics:
            self.places["prediction"].now[place, own] = step.prediction(x)
        if "penalty" in self.places:
            penalty = optimizer.penalty_on_device(parameters)
            self.places["penalty"].now[place] = 0.0 if penalty is None else penalty
        step.backward(backwards, gradient, self.gradients_done)
        return row

    def collect(self) -> None:
        """Take in the losses and predictions of all batches since the last look.

        Raises `TrainingError` as `TrainingStep.train` does, with the model as it was before that
        batch.
        """
        self.settle()
        batches = self.pending(self.done)
        norms = self.norms() if batches else []
        left = self.left()
        if batches and self.take_in(batches, left, norms):
            self.keep()

    def glance(self) -> None:
        """Take in the batches before the last glance, and let the device note what those before this one
        leave: it has launches to go on with meanwhile. Raises as `collect` does."""
        self.settle()
        count = self.done - self.read
        if count:
            norms, copies = (
                self.norms(),
                [place.copies(self.read - self.origin, count) for place in self.places.values()],
            )
            self._spare = self._copied(self._spare)
            fetch = choose.current().fetch([*copies, *norms])
            self.glimpse = Glimpse(self.done, list(self.places), fetch, self._counters())

    def settle(self) -> None:
        """Take in what the last glance has noted."""
        glimpse, self.glimpse = self.glimpse, None
        if glimpse is None:
            return
        batches, values = self.pending(glimpse.stop), glimpse.fetch.wait()
        self.read = glimpse.stop
        left = dict(zip(glimpse.names, values, strict=False))
        if self.take_in(batches, left, values[len(left) :]):
            self._kept, self._spare, self._kept_counters = self._spare, self._kept, glimpse.counters
            self.kept_at, self._kept_measures = glimpse.stop, self._measures()

    def pending(self, stop: int) -> list[Batch]:
        """The batches that have not been counted, up to number `stop`: made while the device is at work."""
        return self.labels(self.read, stop - self.read, bool(self.step.metrics))

    def take_in(self, batches: list[Batch], left: dict[str, np.ndarray], norms: Sequence[Any]) -> bool:
        """Count what batches have left, if all is finite: no gradient before the last step was not.
        Otherwise run them again, and return False."""
        totals = self.totals(batches, left)
        if not all(map(math.isfinite, totals)) or not all(math.isfinite(storage.get(norm)[0]) for norm in norms):
            self.run_again()
            return False
        self.count_in(batches, totals, left)
        return True

    def totals(self, batches: list[Batch], left: dict[str, np.ndarray]) -> list[float]:
        """The loss of each batch from what it has left."""
        totals = self._targets.reduced(left["losses"], batches) if batches else []
        if "penalty" in left:
            return [total + penalty for total, penalty in zip(totals, left["penalty"][:, 0].tolist(), strict=True)]
        return totals

    def count_in(self, batches: list[Batch], totals: list[float], left: dict[str, np.ndarray]) -> None:
        """Count batches with these losses, and what else they have left."""
        for i, (batch, total) in enumerate(zip(batches, totals, strict=True)):
            self.step.measure(batch, left["prediction"][i, : len(batch.x)] if "prediction" in left else None)
            self._count(batch, total)

    # -- what a step depends on ----------------------------------------------------------------------------------------

    def _renew(self) -> bool:
        """Forget what was recorded with other settings; returns whether there are such. They are compared only
        where something was assigned since the last look."""
        now = self.now()
        if now == self._seen and self._key is not None:
            return False
        self._seen = now
        optimizer, segments = self.step.settings.optimizer, self.model.parameters.segments
        weights = [segment.weight for segment in segments]
        extras = [part for w in weights for part in (w.regularizer, w.constraint) if part is not None]
        things = (optimizer, self.step.loss(), *every(self.model.layers), *extras)
        if "penalty" not in self.places and any(w.regularizer is not None for w in weights):
            self.collect()
            self.places["penalty"] = Place((1,), self.together, self.slots)
        return self.renew(things, [segment.trainable for segment in segments], list(map(id, extras)))

    def _plan_from(self, first: int) -> None:
        """Compute the numbers of all updates from batch `first` on, and copy them to the device."""
        rates, rows, after = self.step.settings.optimizer.next_rows(self.steps - first)
        self._plan, table = _Plan(first, rates, after), np.array(rows, np.float32)
        if self._rows is None:
            self._rows = storage.zeros((self.steps, table.shape[1]))
        storage.write(self._rows[first:], table)

    def _make_factors(self, rows: int) -> np.ndarray:
        """What the gradient of each loss is multiplied by: for a batch of this many rows, or, with
        weights, for all samples."""
        reduction, weight = self._targets.loss.reduction, self.data.weight
        count, inner = rows if weight is None else len(self.data.x), self.model.output_shape[1:-1]
        _, factors = losses.reduce(np.ones((count, *inner), np.float32), weight, "sum")
        if reduction != "sum":
            factors = factors / float(rows * math.prod(inner))
        return np.ascontiguousarray(factors, np.float32).reshape(count, -1)

    # -- going back ----------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Keep a copy of all that a step changes."""
        self._kept, self._kept_counters = self._copied(self._kept), self._counters()
        self.kept_at, self._kept_measures = self.done, self._measures()

    def _copied(self, copies: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """(array, copy) of all that a step changes; the arrays of `copies` are used again if they fit."""
        parameters, optimizer = self.model.parameters, self.step.settings.optimizer
        state = [parameters.values, *(w.value for w in parameters.others), *optimizer.flat_slots.values()]
        if not copies or any(array is not kept for (array, _), kept in zip(copies, state, strict=True)):
            copies = [(array, storage.empty(array.shape, array.dtype)) for array in state]
        for array, copy in copies:
            copy[...] = array
        return copies

    def _counters(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self.step.settings.optimizer.counters.items()}

    def norms(self) -> list[Any]:
        """Whether all that steps change is finite, on the device."""
        return [norm_parts(array.reshape(-1)) for array, _ in self._kept]

    def _measures(self) -> tuple[list[dict[str, np.ndarray]], float, float]:
        state = self.model.training_state
        return [metric.get_state() for metric in self.step.metrics or []], state.loss_sum, state.loss_count

    def run_again(self) -> None:
        """Run the batches since the copies were made one by one, which raises at the one that fails."""
        for array, copy in self._kept:
            array[...] = copy
        self.step.settings.optimizer.set_counters(self._kept_counters)
        states, *sums = self._kept_measures
        for metric, state in zip(self.step.metrics or [], states, strict=True):
            metric.set_state(state)
        self.model.training_state.loss_sum, self.model.training_state.loss_count = sums
        last, self.read, self.done = self.done, self.kept_at, self.kept_at
        for number in range(self.kept_at, last):
            self.model.training_state.batch = number
            batch = next(self.data.epoch(self.order(), number, parts.own_rows()))
            self._count(batch, self.step.train(batch))
        self.model.training_state.batch = last
        self.start(last, *storage.get(self.counters[0]).tolist()[1:])
        self.keep()
