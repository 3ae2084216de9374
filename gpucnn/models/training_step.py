"""One step of training on one batch: forward, loss, backward, update.

All state changes happen in the update, so a step whose loss or gradient is not finite leaves the
model as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import distributed, losses
from ..devices import branches, storage
from ..dispatch import choice
from ..errors import KernelError, TrainingError
from ..layers.layer import Activated, Backward
from ..losses import Loss, labels
from ..losses.loss import RowLoss
from ..metrics import Metric
from ..ops.loss import scale_rows
from . import fusion, parts
from .batches import Batch
from .compile_settings import CompileSettings
from .model import Model
from .node import Node
from .recorded_steps import RecordedStep, RecordedSteps
from .targets import row_loss

NO_STEP = np.zeros(1, np.int64)
"""The number of updates in inference, which nothing reads."""


class TrainingStep:
    """The step of a compiled model, with the metrics that it updates.

    metrics   None until `make_metrics` has seen labels
    has_run   whether `train` was called before
    """

    def __init__(self, model: Model, settings: CompileSettings) -> None:
        self.model, self.settings = model, settings
        self.metrics: list[Metric] | None = None
        self.has_run = False
        self._weighted: list[Metric] = []
        self._nodes: list[Node] | None = None
        self._planned_for: object = None
        self._logits_loss: Loss | None = None
        self._recorded = RecordedSteps(self)

    def __getstate__(self) -> dict[str, Any]:
        """All but the plan of what a step runs through, which is made of functions, and what is recorded."""
        state = {**vars(self), "_nodes": None, "_planned_for": None, "_logits_loss": None}
        return {name: value for name, value in state.items() if name != "_recorded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._recorded = RecordedSteps(self)

    def make_metrics(self, y_shape: tuple[int, ...]) -> None:
        """Make the metrics of `compile` for labels of this shape."""
        self.metrics, self._weighted = self.settings.make_metrics(y_shape, self.model.output_shape)

    def nodes(self) -> list[Node]:
        """What a step runs through, planned again for another choice of kernels or another loss."""
        present = choice.decides(), self.settings.loss
        if self._nodes is None or self._planned_for != present:
            self._planned_for = present
            self._logits_loss = None
            last = self.model.layers[-1]
            if self.settings.loss is not None and isinstance(last, Activated) and last.activity_regularizer is None:
                self._logits_loss = losses.from_logits_twin(self.settings.loss, last.activation.name)
            self._nodes = fusion.program(self.model.layers, self._logits_loss is not None)
        return self._nodes

    def train(self, batch: Batch, tolerant: bool = False) -> float:
        """Forward, loss, backward, update; returns the loss, regularisation included.

        A loss or a gradient that is not finite raises `TrainingError`; if `tolerant`, that loss, or
        NaN for the gradient, is returned without an update. Nothing is read from the device before
        all of the backward pass is under way there.
        """
        self.has_run, optimizer, group = True, self.settings.optimizer, distributed.group()
        recorded = self._recorded.of(batch) if group is None else None
        if recorded is not None:
            values, predicted, penalties, norms = recorded.gradients(batch)
        else:
            whole = slice(0, len(batch.x))
            values, predicted, penalties = (
                self.of_part(batch.x, batch, whole) if group is None else parts.gradients(self, batch, group)
            )
            norms = self.model.parameters.gradient_norms()
        prediction = None if predicted is None else storage.get(predicted)
        total = self._total(values, batch, penalties)
        norm = math.hypot(*(_norm(storage.get(parts)) for parts in norms))
        if not math.isfinite(total) or not optimizer.can_take(norm):
            if not tolerant:
                raise self._not_finite(total, norm)
            return math.nan if math.isfinite(total) else total
        if recorded is not None:
            recorded.update()
        else:
            for layer in self.model.layers:
                layer.update()
            optimizer.apply(self.model.parameters)
        self.measure(batch, prediction)
        return total

    def recorded(self, batch: Batch) -> RecordedStep:
        """Do steps until one has been recorded. Raises `KernelError` where that is not possible."""
        for _ in range(3):  # the first allocates what the optimizer keeps, the second sees nothing new
            self.train(batch)
        if (recorded := self._recorded.of(batch)) is None:
            raise KernelError(
                "the step is not recorded: that takes the CPU, the backend njit, GPUCNN_GRAPH other than 0, and "
                "layers, losses and optimizers of gpucnn alone"
            )
        return recorded

    def of_part(self, x: Any, batch: Batch, cut: slice) -> tuple[Any, Any, float]:
        """(the losses of these samples, predictions if metrics need them, penalties), with the gradients
        written, all on the device.

        x      the images of the samples
        batch  the batch, of which y and weight are whole
        cut    the samples among those of the batch
        """
        assert batch.y is not None
        x, step = storage.put(x), storage.put(self.settings.optimizer.batches)
        y, samples = batch.y[cut], len(batch.y)
        if (head := self.head()) is not None:
            x, backwards, penalties = self.forward(x, step, without_last=True)
            factors = self._factors((samples,), batch.weight)[cut]
            x, values, gradient, backward = self._of_head(head, x, y, factors)
            backwards.append(backward)
            self.backward(backwards, gradient)
            return values, self.prediction(x) if self.metrics else None, penalties
        x, backwards, penalties = self.forward(x, step)
        values, loss_backward = losses.forward(self.loss(), y, x)
        if len(y) == samples:  # a loss that looks at the whole batch has values of any shape
            factors = self._factors(values.shape, batch.weight)
        else:
            factors = self._factors((samples, *values.shape[1:]), batch.weight)[cut]
        self.backward(backwards, loss_backward(factors))
        return values, self.prediction(x) if self.metrics else None, penalties

    def _factors(self, shape: tuple[int, ...], weight: np.ndarray | None) -> np.ndarray:
        """What the gradients of losses of this shape are multiplied by, float32."""
        losses_of_all = np.broadcast_to(np.float32(0), shape)  # only their shape counts
        return losses.shares(losses_of_all, weight, self.loss().reduction)

    def _of_head(self, head: fusion.Head, x: Any, y: np.ndarray, factors: Any) -> tuple[Any, Any, Any, Backward]:
        """(logits, losses, gradient of the logits, backward) of the last layer and the loss in one."""
        loss = self.loss()
        assert isinstance(loss, RowLoss)
        outputs = np.broadcast_to(np.float32(0), (len(x), *self.model.output_shape[1:]))  # only their shape counts
        targets = labels.aligned(y, outputs)[0]
        loss.check(targets, outputs.shape)
        expected = storage.put(loss.targets(targets, outputs.shape))
        return head(x, expected, storage.put(np.ascontiguousarray(factors, np.float32)), None)

    def head(self) -> fusion.Head | None:
        """The last node and the loss in one, if they can be."""
        self.nodes()
        return None if self._logits_loss is None else fusion.head(self.model.layers[-1], self._logits_loss)

    def outputs(
        self, x: Any, count: Any, targets: Any, factors: Any, target: Any
    ) -> tuple[Any, Any, Any, list[Backward]]:
        """(outputs, losses, gradient of the outputs, the backward passes of all nodes) for labels as the loss
        takes them and factors of the losses, all on the device; `count` is the number of updates. The
        losses are those of the rows of the outputs, in `target` if the last node writes them there."""
        head = self.head()
        x, backwards, _ = self.forward(x, count, without_last=head is not None)
        if head is not None:
            x, values, gradient, backward = head(x, targets, factors, target)
            return x, values, gradient, [*backwards, backward]
        values, slopes = row_loss(self.loss()).of_rows(x.reshape(-1, x.shape[-1]), targets)
        return x, values, scale_rows(slopes, factors).reshape(x.shape), backwards

    def forward(self, x: Any, step: Any, without_last: bool = False) -> tuple[Any, list[Backward], float]:
        """(output, the backward passes of all nodes, sum of the activity regularizers' penalties) in
        training, all on the device; `without_last` of all nodes but the last."""
        backwards, penalties = [], 0.0
        for node in self.nodes()[: -1 if without_last else None]:
            x, backward, penalty = node.forward(x, step, True)
            backwards.append(backward)
            penalties += penalty
        return x, backwards, penalties

    def backward(self, backwards: list[Backward], dy: Any, done: Callable[[int], None] = lambda node: None) -> None:
        """Write the gradients of all weights, down to the first node that has any, and call `done` with the
        number of each node that has; `backwards` is emptied, which frees arrays early."""
        first = _first_trained(self.nodes())
        while backwards:
            backward = backwards.pop()
            if len(backwards) < first:
                break
            dy = backward(dy, need_dx=len(backwards) > first)
            done(len(backwards))
        branches.join()

    def test(self, batch: Batch) -> float:
        """The loss without an update; the metrics are updated."""
        x, penalties = run_forward(self.nodes(), storage.put(batch.x), storage.put(NO_STEP))
        values, _ = losses.forward(self.loss(), batch.y, x)
        self.measure(batch, None if not self.metrics else storage.get(self.prediction(x)))
        return self._total(values, batch, penalties)

    def results(self) -> dict[str, float]:
        """The value of each metric by name."""
        return {metric.name: float(metric.result()) for metric in self.metrics or []}

    def reset_metrics(self) -> None:
        """Set the metrics back to their start."""
        for metric in self.metrics or []:
            metric.reset_state()

    @contextmanager
    def separate_metrics(self) -> Iterator[None]:
        """In this block the metrics start from zero; after it their old state is back."""
        states = [metric.get_state() for metric in self.metrics or []]
        self.reset_metrics()
        try:
            yield
        finally:
            for metric, state in zip(self.metrics or [], states, strict=False):
                metric.set_state(state)

    def loss(self) -> Loss:
        """The loss of `compile`, or its twin that takes the last layer's logits."""
        loss = self._logits_loss or self.settings.loss
        assert loss is not None
        return loss

    def _total(self, values: Any, batch: Batch, penalties: float) -> float:
        """The loss, regularisation included, on the host."""
        reduced, _ = losses.reduce(storage.get(values), batch.weight, self.loss().reduction)
        return float(reduced) + penalties + self.settings.optimizer.penalty(self.model.parameters)

    def prediction(self, x: Any) -> Any:
        """What the metrics see: the output after the last activation, on the device."""
        if self._logits_loss is None:
            return x
        last = self.model.layers[-1]
        assert isinstance(last, Activated)
        return last.activation.forward(x)[0]

    def measure(self, batch: Batch, prediction: np.ndarray | None) -> None:
        """Update the metrics with a batch and its predictions on the host."""
        if prediction is None:
            return
        assert batch.y is not None
        targets, outputs = labels.aligned(batch.y, prediction)
        for metric in self.metrics or []:
            metric.update_state(targets, outputs, batch.weight if metric in self._weighted else None)

    def _not_finite(self, loss: float, norm: float) -> TrainingError:
        state = self.model.training_state
        largest = sorted(
            (
                (float(np.abs(storage.get(s.weight.gradient)).max(initial=0.0)), s.weight.path)
                for s in self.model.parameters.segments
            ),
            key=lambda pair: (not math.isnan(pair[0]), -pair[0]),
        )
        shown = ", ".join(f"{path} {size:.3g}" for size, path in largest[:3])
        fault = f"the gradients' norm is {norm:.3g} and the loss {loss}"
        if not math.isfinite(loss):
            fault = f"the loss is {loss}"
        return TrainingError(
            f"{fault} at epoch {state.epoch + 1}, batch {state.batch} (counted from 0); the weights are as "
            f"they were before it. Largest gradients: {shown}. Lower the learning rate, clip gradients (clipnorm=1.0), "
            "and look for NaN in x and y"
        )


def run_forward(nodes: list[Node], x: Any, step: Any) -> tuple[Any, float]:
    """(output, sum of the activity regularizers' penalties) in inference, all on the device."""
    penalties = 0.0
    for node in nodes:
        x, penalty = node.forward(x, step, False)[::2]  # the backward pass would keep arrays alive
        penalties += penalty
    return x, penalties


def _norm(parts: np.ndarray) -> float:
    """The norm, of any size, whose scale and total these are."""
    scale, total = parts.tolist()
    return scale * math.sqrt(total)


def _first_trained(nodes: list[Node]) -> int:
    """The first node that has a gradient to write; nothing before it needs a backward pass."""
    for i, node in enumerate(nodes):
        if any(layer.trainable_weights for layer in node.layers):
            return i
    return len(nodes)
