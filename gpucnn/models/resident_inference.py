"""Losses and outputs of a model on arrays that stay on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import losses
from ..ops.batch import advance
from .batches import Arrays, Batch
from .fusion import Node
from .model import Model
from .resident import Resident, Targets
from .training_step import TrainingStep, run_forward


class ResidentTest(Resident):
    """The loss and the metrics of a model on one set of arrays.

    count   receives each batch and its loss, in order, when results are collected
    """

    def __init__(self, model: Model, step: TrainingStep, data: Arrays, count: Callable[[Batch, float], None]) -> None:
        rows, outputs = data.batch_size, model.output_shape[1:]
        places = {"losses": (rows, *outputs[:-1])}
        if step.metrics:
            places["prediction"] = (rows, *outputs)
        super().__init__(model, data, places)
        step.nodes()
        self.step, self._count = step, count
        self._targets = Targets(step.loss(), data, model.output_shape)

    def batches(self) -> Iterator[Callable[[], None]]:
        """A function for each batch that computes its loss and its predictions."""
        self.start(0)
        self.renew(self.model.layers)
        for number in range(self.steps):
            yield partial(self.replay, number)

    def launch(self, rows: int) -> None:
        """The forward pass and the loss."""
        x, _ = run_forward(self.step.nodes(), self.images(rows), self.counters[2:3])
        values, _ = self._targets.losses(self, x, rows)
        self.places["losses"].now[:rows] = values.reshape(x.shape[:-1])
        if self.step.metrics:
            self.places["prediction"].now[:rows] = self.step.prediction(x)
        advance(self.counters, steps=self.steps)

    def collect(self) -> None:
        """Take in the losses and predictions of all batches since the last look."""
        first, pending = self.read, self.done - self.read
        left = {name: place.read(pending) for name, place in self.places.items()} if pending else {}
        self.read = self.done
        for i in range(pending):
            batch = self.batch(first + i)
            self.step.measure(batch, left["prediction"][i, : len(batch.x)] if "prediction" in left else None)
            reduced, _ = losses.reduce(left["losses"][i, : len(batch.x)], batch.weight, self._targets.loss.reduction)
            self._count(batch, float(reduced))


class ResidentOutputs(Resident):
    """The outputs of a model for one array of inputs; `outputs` has those collected so far."""

    def __init__(self, model: Model, nodes: list[Node], data: Arrays) -> None:
        super().__init__(model, data, {"outputs": (data.batch_size, *model.output_shape[1:])})
        self._nodes = nodes
        self.outputs: list[np.ndarray] = []

    def batches(self) -> Iterator[Callable[[], None]]:
        """A function for each batch that computes its outputs."""
        self.start(0)
        for number in range(self.steps):
            yield partial(self.replay, number)

    def launch(self, rows: int) -> None:
        """The forward pass."""
        y: Any = run_forward(self._nodes, self.images(rows), self.counters[2:3])[0]
        self.places["outputs"].now[:rows] = y
        advance(self.counters, steps=self.steps)

    def collect(self) -> None:
        """Take in the outputs of all batches since the last look."""
        first, pending = self.read, self.done - self.read
        self.read = self.done
        for i, outputs in enumerate(self.places["outputs"].read(pending) if pending else ()):
            self.outputs.append(outputs[: self.rows_of(first + i)])
