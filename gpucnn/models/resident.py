"""Steps of training that do not wait for the host: the data stays on the device, and each step is
recorded once and replayed from then on.

The device chooses the images of each batch, counts the batches, and takes the numbers of the update
from a table. Losses and predictions stay there until someone asks for them; then they become the
same loss and metrics as step by step, to the bit. If a loss turns out not to be finite, the state
at the last look is restored, and the steps since then are run one by one: the error and the weights
are as if nothing had been recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import losses, random
from ..devices import choose, storage
from ..dispatch import choice
from ..losses.loss import RowLoss
from ..ops.batch import advance, gather_images, gather_labels
from ..ops.loss import scale_rows
from .batches import Arrays, Batch, Batches
from .compile_settings import CompileSettings
from .model import Model
from .training_step import TrainingStep

_WINDOW = 64 << 20
"""Bytes of losses and predictions that are kept on the device before they are read."""

Count = Callable[[Batch, float], None]


def obstacle(model: Model, settings: CompileSettings, data: Batches, tolerant: bool) -> str | None:
    """Why steps cannot be recorded, or None if they can."""
    if not isinstance(data, Arrays):
        return "its batches come from a generator"
    if tolerant:
        return "TerminateOnNaN looks at every loss"
    loss, optimizer = settings.loss, settings.optimizer
    if data.weight is not None and loss is not None and loss.reduction == "mean_with_sample_weight":
        return "the reduction mean_with_sample_weight divides each batch by its own weights"
    if not optimizer.repeats:
        return f"{type(optimizer).__name__} does not do the same in each step, as it is set up"
    for part in (loss, optimizer, *model.layers):
        if not _is_ours(part):
            return f"{type(part).__name__} is not one of gpucnn's own"
    for layer in model.layers:
        if layer.activity_regularizer is not None:
            return f"{layer.name} has an activity_regularizer"
    for weight in model.trainable_weights:
        for part in (weight.regularizer, weight.constraint):
            if part is not None and not _is_ours(part):
                return f"{type(part).__name__} is not one of gpucnn's own"
    need, free = data.x.nbytes if data.x.dtype == np.uint8 else 4 * data.x.size, choose.current().free_bytes()
    if free is not None and need > free // 2:
        return f"x needs {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on {choose.current().name}"
    return None


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, tuple))


def _is_ours(part: object) -> bool:
    return type(part).__module__.startswith("gpucnn.")


@dataclass
class _Plan:
    """The rates of the coming batches, and the optimizer's counters after each of them."""

    first: int
    rates: list[float]
    after: list[dict[str, np.ndarray]]


class ResidentSteps:
    """The training of one model on one set of arrays.

    data    the arrays, of which the device gets a copy
    count   receives each batch and its loss, in order, when results are collected
    """

    def __init__(self, model: Model, step: TrainingStep, data: Arrays, count: Count) -> None:
        self.model, self.step, self.data, self._count = model, step, data, count
        self._steps = math.ceil(len(data.x) / data.batch_size)
        self._images = storage.put(np.ascontiguousarray(data.x, np.uint8 if data.x.dtype == np.uint8 else np.float32))
        step.nodes()
        loss = step.loss()
        loss = getattr(loss, "chosen", loss)
        assert isinstance(loss, RowLoss) and data.y is not None
        self._loss = loss
        outputs = (len(data.x), *model.output_shape[1:])
        targets = loss.targets(np.asarray(data.y), (math.prod(outputs[:-1]), outputs[-1]))
        self._target_shape = targets.shape[1:]
        self._targets = storage.put(targets.reshape(len(data.x), -1))
        self._factors: dict[int, Any] = {rows: self._make_factors(rows, outputs[1:-1]) for rows in self._row_counts()}
        batch = data.batch_size
        self._counters = storage.put(np.zeros(3, np.int64))
        self._values = storage.empty((batch, *outputs[1:-1]))
        self._prediction = storage.empty((batch, *outputs[1:]))
        self._penalty = storage.zeros((1,))
        each = self._values.nbytes + (self._prediction.nbytes if step.metrics else 0)
        window = max(1, min(self._steps, _WINDOW // each))
        self._value_window = storage.empty((window, *self._values.shape))
        self._prediction_window = storage.empty((window, *self._prediction.shape)) if step.metrics else None
        self._penalty_window = storage.zeros((window, 1))
        self._rows: Any = None
        self._recorded: dict[int, Callable[[], None]] = {}
        self._key: Any = None
        self._kept: list[tuple[Any, Any]] = []
        self._kept_counters: dict[str, np.ndarray] = {}
        self._order: np.ndarray | None = None
        self._plan = _Plan(0, [], [])
        self._read = self._done = 0

    # -- an epoch ------------------------------------------------------------------------------------------------------

    def epoch(self, first: int, epoch: int, seed: int, shuffle: bool, watched: bool) -> Iterator[Callable[[], None]]:
        """A function for each batch from number `first` on that trains on it.

        epoch, seed   choose the order of the samples, if they are shuffled
        watched       whether callbacks may change the model or the optimizer between two batches
        """
        self._order = random.permutation(len(self.data.x), seed=seed, epoch=epoch) if shuffle else None
        self._shuffle = {"seed": seed, "stream": 0, "shuffle": shuffle}
        self._renew()
        optimizer = self.step.settings.optimizer
        storage.write(self._counters, np.array([first, epoch, int(optimizer.batches[0])], np.int64))
        self._read = self._done = first
        self._plan_from(first)
        self._keep()
        for number in range(first, self._steps):
            yield partial(self._train, number, watched and number > first)

    def collect(self) -> None:
        """Take in the losses and predictions of all batches since the last look.

        Raises `TrainingError` as `TrainingStep.train` does, with the model as it was before that
        batch.
        """
        pending = self._done - self._read
        if not pending:
            return
        values = storage.get(self._value_window[:pending])
        predictions = None if self._prediction_window is None else storage.get(self._prediction_window[:pending])
        penalties = storage.get(self._penalty_window[:pending])
        first, self._read = self._read, self._done
        totals = []
        for i in range(pending):
            batch = self._batch(first + i)
            reduced, _ = losses.reduce(values[i, : len(batch.x)], batch.weight, self._loss.reduction)
            totals.append((batch, float(reduced) + float(penalties[i, 0])))
        if not all(math.isfinite(total) for _, total in totals):
            self._run_again(first)
        for i, (batch, total) in enumerate(totals):
            if predictions is not None:
                self.step.measure(batch, predictions[i, : len(batch.x)])
            self._count(batch, total)
        self._keep()

    # -- one step ------------------------------------------------------------------------------------------------------

    def _train(self, number: int, changed: bool) -> None:
        if changed:
            self._renew()
        if self.step.settings.optimizer.learning_rate != self._plan.rates[number - self._plan.first]:
            self._plan_from(number)
        if number - self._read == len(self._value_window):
            self.collect()
        rows = self._rows_of(number)
        recorded = self._recorded.get(rows)
        if recorded is None:
            self._recorded[rows] = choose.current().record(lambda: self._launch(rows))
        else:
            recorded()
        self._restore_counters(self._plan.after[number - self._plan.first])
        slot = number - self._read
        self._value_window[slot] = self._values
        if self._prediction_window is not None:
            self._prediction_window[slot] = self._prediction
        if self._penalized:
            self._penalty_window[slot] = self._penalty
        self._done = number + 1

    def _launch(self, rows: int) -> None:
        """The whole step, as launches on fixed arrays."""
        step, optimizer, parameters = self.step, self.step.settings.optimizer, self.model.parameters
        batch, epoch, total = self._counters[0:1], self._counters[1:2], self._counters[2:3]
        chosen: dict[str, Any] = {"rows": rows, "batch_size": self.data.batch_size, **self._shuffle}
        x = gather_images(self._images, epoch, batch, **chosen, scale=1.0, offset=0.0)
        targets = gather_labels(self._targets, epoch, batch, **chosen).reshape(-1, *self._target_shape)
        alone: dict[str, Any] = {"rows": 1, "batch_size": 1, "seed": 0, "stream": 0, "shuffle": False}
        row = gather_labels(self._rows, epoch, batch, **alone).reshape(-1)
        x, backwards, _ = step.forward(x, total)
        values, gradient = self._loss.of_rows(x.reshape(-1, x.shape[-1]), targets)
        self._values[:rows] = values.reshape(x.shape[:-1])
        if step.metrics:
            self._prediction[:rows] = step.prediction(x)
        penalty = optimizer.penalty_on_device(parameters)
        if penalty is not None:
            self._penalty[...] = penalty
        factors = self._factors[rows]
        if self.data.weight is not None:
            factors = gather_labels(factors, epoch, batch, **chosen)
        step.backward(backwards, scale_rows(gradient, factors.reshape(-1)).reshape(x.shape))
        for layer in self.model.layers:
            layer.update()
        optimizer.change_weights(parameters, row)
        advance(self._counters, steps=self._steps)

    # -- what a step depends on ----------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Forget what was recorded for other settings."""
        optimizer, parameters = self.step.settings.optimizer, self.model.parameters
        self._penalized = any(weight.regularizer is not None for weight in self.model.trainable_weights)
        things = (optimizer, *self.model.layers)
        key = (
            choice.generation(),
            tuple(segment.trainable for segment in parameters.segments),
            tuple((name, value) for thing in things for name, value in vars(thing).items() if _is_plain(value)),
            tuple(self._shuffle.items()),
            id(parameters.values),
        )
        if key != self._key:
            self._key = key
            self._recorded.clear()

    def _plan_from(self, first: int) -> None:
        """Compute the numbers of all updates from batch `first` on, and copy them to the device."""
        optimizer = self.step.settings.optimizer
        before = {name: array.copy() for name, array in optimizer.counters.items()}
        rows, self._plan = [], _Plan(first, [], [])
        for _ in range(first, self._steps):
            self._plan.rates.append(optimizer.learning_rate)
            rows.append(optimizer.next_row())
            optimizer.batches[0] += 1
            self._plan.after.append({name: array.copy() for name, array in optimizer.counters.items()})
        self._restore_counters(before)
        table = np.array(rows, np.float32)
        if self._rows is None:
            self._rows = storage.empty((self._steps, table.shape[1]))
        storage.write(self._rows[first:], table)

    def _restore_counters(self, values: dict[str, np.ndarray]) -> None:
        for name, array in self.step.settings.optimizer.counters.items():
            array[...] = values[name]

    def _make_factors(self, rows: int, inner: tuple[int, ...]) -> Any:
        """What the gradient of each loss is multiplied by, for batches of this many rows."""
        count = len(self.data.x) if self.data.weight is not None else rows
        _, factors = losses.reduce(np.ones((count, *inner), np.float32), self.data.weight, "sum")
        if self._loss.reduction != "sum":
            factors = factors / float(rows * math.prod(inner))
        return storage.put(np.ascontiguousarray(factors, np.float32).reshape(count, -1))

    def _row_counts(self) -> list[int]:
        """Full batches and the last one of an epoch."""
        return sorted({self._rows_of(0), self._rows_of(self._steps - 1)})

    def _rows_of(self, number: int) -> int:
        return min(self.data.batch_size, len(self.data.x) - number * self.data.batch_size)

    def _batch(self, number: int) -> Batch:
        return next(self.data.epoch(self._order, number))

    # -- going back ----------------------------------------------------------------------------------------------------

    def _state(self) -> list[Any]:
        parameters, optimizer = self.model.parameters, self.step.settings.optimizer
        return [parameters.values, *(weight.value for weight in parameters.others), *optimizer.flat_slots.values()]

    def _keep(self) -> None:
        """Keep a copy of all that a step changes."""
        state = self._state()
        if not self._kept or any(array is not kept for (array, _), kept in zip(self._kept, state, strict=False)):
            self._kept = [(array, storage.empty(array.shape, array.dtype)) for array in state]
        for array, copy in self._kept:
            copy[...] = array
        self._kept_counters = {name: array.copy() for name, array in self.step.settings.optimizer.counters.items()}

    def _run_again(self, first: int) -> None:
        """Run the batches since the last look one by one, up to the one that fails."""
        for array, copy in self._kept:
            array[...] = copy
        self._restore_counters(self._kept_counters)
        state, last = self.model.training_state, self._done
        self._done = self._read = first
        for number in range(first, last):
            state.batch = number
            batch = self._batch(number)
            self._count(batch, self.step.train(batch))
        raise AssertionError("a loss was not finite in recorded steps, and finite when they were run one by one")
