"""Losses and outputs of a model on arrays that stay on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..layers.layer import every
from .batches import Arrays, Batch
from .model import Model
from .node import Node
from .resident import Resident, Turn
from .targets import Targets
from .training_step import TrainingStep, run_forward


class ResidentTest(Resident):
    """The loss and the metrics of a model on one set of arrays.

    count   receives each batch and its loss, in order, when results are collected; set it first
    """

    count: Callable[[Batch, float], None]

    def __init__(self, model: Model, step: TrainingStep, data: Arrays) -> None:
        rows, outputs = data.batch_size, model.output_shape[1:]
        places = {"losses": (rows, *outputs[:-1])}
        if step.metrics:
            places["prediction"] = (rows, *outputs)
        super().__init__(model, data, places)
        step.nodes()
        self.step = step
        self._targets = Targets(step.loss(), data, model.output_shape)

    def replace(self, data: Arrays) -> bool:
        """Take these arrays, if they are alike."""
        if not super().replace(data):
            return False
        self._targets.replace(data)
        return True

    def batches(self, stop: int, together: int) -> Iterator[Turn]:
        """Functions that compute losses and predictions of batches up to `stop`, and of how many each."""
        self.start(0)
        self.renew(every(self.model.layers))
        for number, count in self.turns(0, stop, together):
            yield partial(self.replay, number, count), count

    def launch(self, rows: int, place: int) -> None:
        """The forward pass and the loss."""
        x, labels, *_ = self.gather(rows, place, self._targets.all)
        x, _ = run_forward(self.step.nodes(), x, self.step_of(place))
        values, _ = self._targets.losses(x, labels)
        self.places["losses"].now[place, :rows] = values.reshape(x.shape[:-1])
        if self.step.metrics:
            self.places["prediction"].now[place, :rows] = self.step.prediction(x)

    def collect(self) -> None:
        """Take in the losses and predictions of all batches since the last look."""
        batches, left = self.labels(self.read, self.done - self.read, bool(self.step.metrics)), self.left()
        totals = self._targets.reduced(left["losses"], batches) if batches else []
        for i, (batch, loss) in enumerate(zip(batches, totals, strict=True)):
            self.step.measure(batch, left["prediction"][i, : len(batch.x)] if "prediction" in left else None)
            self.count(batch, loss)


class ResidentOutputs(Resident):
    """The outputs of a model for one array of inputs; `outputs` has those collected so far."""

    def __init__(self, model: Model, nodes: list[Node], data: Arrays) -> None:
        super().__init__(model, data, {"outputs": (data.batch_size, *model.output_shape[1:])})
        self.nodes = nodes
        self.outputs: list[np.ndarray] = []

    def rest(self) -> bool:
        """Give up the outputs too."""
        self.outputs = []
        return super().rest()

    def batches(self, stop: int, together: int) -> Iterator[Turn]:
        """Functions that compute the outputs of batches up to `stop`, and of how many each."""
        self.start(0)
        for number, count in self.turns(0, stop, together):
            yield partial(self.replay, number, count), count

    def launch(self, rows: int, place: int) -> None:
        """The forward pass."""
        y: Any = run_forward(self.nodes, self.gather(rows, place)[0], self.step_of(place))[0]
        self.places["outputs"].now[place, :rows] = y

    def collect(self) -> None:
        """Take in the outputs of all batches since the last look."""
        first = self.read
        for i, outputs in enumerate(self.left().get("outputs", ())):
            self.outputs.append(outputs[: self.rows_of(first + i)])
