"""Steps of training on the CPU that are recorded, and replayed with other batches of the same shape.

A step of a small model spends as long in Python as in its kernels. What a step depends on is compared
before each one; where anything has changed, it is run from Python again, and recorded if the next one
is like it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from .. import losses
from ..config import changes
from ..devices import choose
from ..devices.cpu import CPU
from ..dispatch import choice
from ..dispatch.tape import Run, Tape
from ..layers.layer import Backward, every
from ..losses import Loss, labels
from ..metrics import Metric
from . import resident
from .batches import Batch
from .compile_settings import CompileSettings
from .model import Model
from .node import Node
from .targets import row_loss

Shape = tuple[Any, ...]


class Step(Protocol):
    """What is recorded of `TrainingStep`."""

    model: Model
    settings: CompileSettings
    metrics: list[Metric] | None

    def nodes(self) -> list[Node]:
        """What the step runs through."""

    def loss(self) -> Loss:
        """The loss that takes the output of the last node."""

    def outputs(
        self, x: Any, count: Any, targets: Any, factors: Any, target: Any
    ) -> tuple[Any, Any, Any, list[Backward]]:
        """(outputs, losses, gradient of the outputs, backward passes)."""

    def backward(self, backwards: list[Backward], dy: Any) -> None:
        """Write the gradients of all weights."""

    def prediction(self, x: Any) -> Any:
        """What the metrics see."""


class RecordedSteps:
    """The recorded steps of a compiled model, by the shapes of their batches."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._seen: tuple[Any, ...] = ()
        self._key: list[Any] = []
        self._held: list[Any] = []
        self._can_record = False
        self._last: Shape = ()
        self._steps: dict[Shape, RecordedStep] = {}

    def of(self, batch: Batch) -> RecordedStep | None:
        """The step for such a batch; None if it is to be run from Python."""
        if choose.current() is not CPU or choice.backend() != "njit" or os.environ.get("GPUCNN_GRAPH") == "0":
            return None
        self._compare()
        shape = _shape(batch)
        if not self._can_record or shape is None:
            return None
        if shape not in self._steps and shape == self._last:
            self._steps[shape] = RecordedStep(self._step)
        self._last = shape
        recorded = self._steps.get(shape)
        return recorded if recorded is None or recorded.complete else None

    def _compare(self) -> None:
        """Forget what was recorded if anything has changed on which it depends. Only where something was assigned
        since the last look, all of that is compared."""
        if (seen := self._glance()) == self._seen:
            return
        self._seen = seen
        held: list[Any] = []
        key = [*choice.decides(), *self._depends_on(held)]
        if key == self._key:
            return
        self._key, self._held, self._last = key, held, ()
        self._steps.clear()
        step, optimizer = self._step, self._step.settings.optimizer
        self._can_record = not (
            resident.unrecordable(step.model, step.loss()) or resident.changing(step.model, optimizer)
        )

    def _glance(self) -> tuple[Any, ...]:
        """What differs after any assignment to an attribute, and the parts that others assign or lists hold."""
        step, optimizer = self._step, self._step.settings.optimizer
        slots = tuple(map(id, optimizer.flat_slots.values()))
        parts = id(step.model.parameters), id(step.nodes()), id(step.loss()), id(optimizer), slots, bool(step.metrics)
        return changes(), choice.decides(), *map(id, step.model.layers), *parts

    def _depends_on(self, held: list[Any]) -> Iterator[Any]:
        """All that a step depends on apart from its batch and the numbers of its update. Objects are
        compared by their identity, and `held` so that no other one gets the same."""
        step, optimizer = self._step, self._step.settings.optimizer
        parameters, layers = step.model.parameters, list(every(step.model.layers))
        weights = [segment.weight for segment in parameters.segments]
        parts = [part for weight in weights for part in (weight.regularizer, weight.constraint) if part is not None]
        held += [parameters, step.nodes(), step.loss(), *parts, *optimizer.flat_slots.values()]
        for weight in (*weights, *parameters.others):
            held += (weight.value, weight.gradient)
        for layer in layers:
            for name, value in vars(layer).items():
                if name not in _LEFT_BY_STEPS and not isinstance(value, resident.PLAIN):
                    held.append(value)
        yield bool(step.metrics)
        yield from map(id, held)
        yield from (segment.trainable for segment in parameters.segments)
        yield from resident.plain_settings((optimizer, step.loss(), *layers, *parts))


_LEFT_BY_STEPS = {"batch_statistics"}
"""Attributes of layers that a step writes."""


class RecordedStep:
    """One step, recorded while it runs for the first time.

    complete   whether it can be replayed
    """

    def __init__(self, step: Step) -> None:
        self._step, self.complete = step, True
        self._gradients: Tape | None = None
        self._update: Tape | None = None
        self._results: tuple[Any, Any, list[Any]] = None, None, []
        self._targets: Any = None
        self._factors: Any = None
        self._row: Any = None

    def gradients(self, batch: Batch) -> tuple[Any, Any, float, list[Any]]:
        """(the losses of the samples, predictions if metrics need them, penalties, the norms of the
        gradients), with the gradients written."""
        targets, factors = self._of_labels(batch)
        if self._gradients is not None:
            self._targets[...], self._factors[...] = targets, factors
            self._gradients.replay(batch.x)
        else:
            self._targets, self._factors = np.array(targets), np.array(factors, np.float32)
            self._gradients = Tape(math.inf)
            with self._gradients.recording():
                self._compute(batch.x)
            self._gradients.end(batch.x)
            self.complete = self._gradients.complete
        values, predicted, norms = self._results
        return values, predicted, 0.0, norms

    def times(self, batch: Batch) -> list[tuple[Run | None, float]]:
        """Do a step that is recorded, and return the seconds of each kernel (`Tape.times`)."""
        assert self._gradients is not None and self._update is not None, "the step has not been recorded"
        self._targets[...], self._factors[...] = self._of_labels(batch)
        self._row[...] = self._step.settings.optimizer.next_row()
        self._step.settings.optimizer.batches[0] += 1
        return [*self._gradients.times(batch.x), *self._update.times()]

    def _of_labels(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """What the loss takes of the labels, for each row of the outputs, and the factors of the losses."""
        loss, shape = self._step.loss(), (len(batch.x), *self._step.model.output_shape[1:])
        outputs = np.broadcast_to(np.float32(0), shape)  # only their shape counts
        assert batch.y is not None
        targets = labels.aligned(batch.y, outputs)[0]
        loss.check(targets, shape)
        factors = losses.shares(outputs[..., 0], batch.weight, loss.reduction)
        return row_loss(loss).targets(targets, (math.prod(shape[:-1]), shape[-1])), factors.reshape(-1)

    def _compute(self, x: Any) -> None:
        """Forward and backward."""
        step, count = self._step, self._step.settings.optimizer.batches
        outputs, values, gradient, backwards = step.outputs(x, count, self._targets, self._factors, None)
        predicted = step.prediction(outputs) if step.metrics else None
        step.backward(backwards, gradient)
        self._results = values.reshape(outputs.shape[:-1]), predicted, step.model.parameters.gradient_norms()

    def update(self) -> None:
        """Change the weights."""
        step, parameters, optimizer = self._step, self._step.model.parameters, self._step.settings.optimizer
        row = optimizer.next_row()
        if self._update is not None:
            self._row[...] = row
            self._update.replay()
        else:
            self._row, self._update = row.astype(parameters.values.dtype), Tape(math.inf)
            with self._update.recording():
                for layer in step.model.layers:
                    layer.update()
                optimizer.change_weights(parameters, self._row)
            self._update.end()
        optimizer.batches[0] += 1


def _shape(batch: Batch) -> Shape | None:
    """What batches of one recorded step have in common; None if x is not one that kernels take."""
    x, y = batch.x, batch.y
    if not CPU.takes(x) or y is None:
        return None
    return x.shape, x.dtype, y.shape, y.dtype
