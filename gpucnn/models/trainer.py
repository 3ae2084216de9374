"""How a model learns: fit, evaluate and predict, with Keras' words and rules.

A training step has five phases: gather, forward, loss, backward, update. All state changes happen in the last one, so a
step that met a loss which is not a number leaves the model as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import callbacks as callbacks_
from .. import losses, random
from ..devices import storage, threads
from ..errors import ArgumentError, TrainingError
from ..layers.layer import Activated
from ..retired import reject
from . import fusion
from .batches import Arrays, Batch, Batches, Stream, batches, class_weights, split_off, warn_if_unscaled
from .compiled import Compiled, arguments_of
from .state import TrainingState


class Trainer(Compiled):
    """The part of a model that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.history: callbacks_.History | None = None
        self.stop_training = False
        self._warned_unscaled = False

    # -- fit -----------------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        **unknown: Any,
    ) -> callbacks_.History:
        """Train for `epochs` passes over x and y; returns the `History`.

        x  arrays (n, H, W, C), or a generator or iterable of batches (x, y) or (x, y, sample_weight)
        y  class numbers (n,), one-hot rows (n, classes) or targets of the model's output shape

        Raises `TrainingError` when the loss is not finite, with the batch and the largest gradients by layer.
        """
        if unknown:
            reject("fit", unknown, arguments_of(self.fit))
        self._require_compiled("fit", needs_loss=True)
        if not isinstance(epochs, (int, np.integer)) or epochs < 1:
            raise ArgumentError(f"epochs={epochs!r} is out of range: use an integer of 1 or more")
        if isinstance(validation_freq, (int, np.integer)) and validation_freq < 1:
            raise ArgumentError(f"validation_freq={validation_freq} is out of range: use 1 or more")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_off(validation_split, x, y, sample_weight)
        data = self._take(x, y, sample_weight, batch_size, steps_per_epoch)
        if class_weight is not None:
            data = self._weigh_classes(data, class_weight)
        held_out = None
        if validation_data is not None:
            size = validation_batch_size or (batch_size if isinstance(data, Arrays) else None)
            held_out = self._take_validation(validation_data, size, validation_steps)

        history = callbacks_.History()
        hooks = callbacks_.CallbackList(
            [callbacks, history], model=self, verbose=verbose, epochs=epochs, steps=data.steps
        )
        tolerant = any(isinstance(c, callbacks_.TerminateOnNaN) for c in hooks.callbacks)
        self.stop_training = False
        self.history = history
        with threads.one_blas_thread():
            hooks.on_train_begin()
            state = self._start(initial_epoch, history)
            logs: dict[str, float] = {}
            for epoch in range(state.epoch, epochs):
                state.epoch = epoch
                logs = self._run_epoch(data, hooks, shuffle, tolerant)
                if held_out is not None and _due(validation_freq, epoch):
                    logs.update({f"val_{k}": v for k, v in self._test(held_out, hooks).items()})
                state.end_epoch(logs)
                hooks.on_epoch_end(epoch, logs)
                state.record()
                if self.stop_training:
                    break
            self.optimizer.finalize(self.parameters)
            hooks.on_train_end(logs)
        return history

    def _start(self, initial_epoch: int, history: callbacks_.History) -> TrainingState:
        state = self.training_state
        if state.resume:
            state.resume = False
            history.epoch = list(state.epochs)
            history.history = {name: list(values) for name, values in state.history.items()}
            if state.metrics and len(state.metrics) != len(self.metrics):
                raise ArgumentError(
                    f"the checkpoint has {len(state.metrics)} metrics and the model was compiled with "
                    f"{len(self.metrics)}: compile it with the same ones"
                )
            for metric, saved in zip(self.metrics, state.metrics, strict=False):
                metric.set_state({name: np.asarray(value) for name, value in saved.items()})
        else:
            state.epoch, state.batch, state.epochs, state.history = initial_epoch, 0, [], {}
        state.metrics = self.metrics
        return state

    def _run_epoch(
        self, data: Batches, hooks: callbacks_.CallbackList, shuffle: bool, tolerant: bool
    ) -> dict[str, float]:
        state = self.training_state
        hooks.on_epoch_begin(state.epoch)
        if state.batch == 0:
            state.loss_sum = state.loss_count = 0.0
            for metric in self._metrics or []:
                metric.reset_state()
        order = None
        if shuffle and isinstance(data, Arrays):
            order = random.permutation(len(data.x), seed=state.seed, epoch=state.shuffles)
        stop = data.steps
        source = data.epoch(order, state.batch)
        for batch in source:
            if state.batch % self.steps_per_execution == 0:
                hooks.on_train_batch_begin(state.batch)
            loss = self._train(batch, tolerant)
            self._count(batch, loss)
            state.batch += 1
            last = state.batch == stop
            if last or state.batch % self.steps_per_execution == 0:
                hooks.on_train_batch_end(state.batch - 1, self._logs)
            if last or self.stop_training:
                break
        if state.batch == 0:
            raise ArgumentError("fit met no batch in this epoch: the generator is exhausted; give steps_per_epoch")
        return self._logs()

    def _count(self, batch: Batch, loss: float) -> None:
        state = self.training_state
        state.loss_sum += loss * len(batch.x)
        state.loss_count += len(batch.x)

    def _logs(self) -> dict[str, float]:
        state = self.training_state
        logs = {"loss": state.loss_sum / max(state.loss_count, 1.0)}
        logs.update((m.name, float(m.result())) for m in self._metrics or [])
        return logs

    # -- one step ------------------------------------------------------------------------------------------------------

    def _train(self, batch: Batch, tolerant: bool = False) -> float:
        """Forward, loss, backward, update; returns the loss, regularisation included."""
        step = storage.put(self.optimizer.batches)
        x, backwards, extra = storage.put(batch.x), [], 0.0
        program = self._nodes()
        for node in program:
            x, backward, penalty = node.forward(x, step, True)
            backwards.append(backward)
            extra += penalty
        loss = self._logits_loss or self.loss
        values, loss_backward = losses.forward(loss, batch.y, x)
        total, dvalues = losses.reduce(values, batch.weight, loss.reduction)
        total = float(total) + extra + self.optimizer.penalty(self.parameters)
        prediction = self._prediction(x)
        dy = loss_backward(dvalues)
        del x
        first = self._first_trained(program)
        while backwards:
            backward = backwards.pop()
            if len(backwards) < first:
                break
            dy = backward(dy, need_dx=len(backwards) > first)
        if not math.isfinite(total):
            if not tolerant:
                raise self._not_finite(total)
            return total
        for layer in self.layers:
            layer.update()
        self.optimizer.apply(self.parameters)
        self._measure(batch, prediction)
        return total

    def _first_trained(self, program: list[fusion.Node]) -> int:
        """The first node that has a gradient to write; nothing before it needs a backward pass."""
        for i, node in enumerate(program):
            if any(layer.trainable_weights for layer in node.layers):
                return i
        return len(program)

    def _prediction(self, x: Any) -> np.ndarray | None:
        """What the metrics see, on the host: probabilities, also when the loss took logits. None without metrics."""
        if not self._metrics:
            return None
        if self._logits_loss is None:
            return storage.get(x)
        last = self.layers[-1]
        assert isinstance(last, Activated)
        return storage.get(last.activation.forward(x)[0])

    def _measure(self, batch: Batch, prediction: np.ndarray | None) -> None:
        for metric in self._metrics or []:
            metric.update_state(batch.y, prediction, batch.weight if metric in self._weighted else None)

    def _not_finite(self, loss: float) -> TrainingError:
        state = self.training_state
        largest = sorted(
            (
                (float(np.abs(storage.get(s.weight.gradient)).max(initial=0.0)), s.weight.path)
                for s in self.parameters.segments
            ),
            key=lambda pair: (not math.isnan(pair[0]), -pair[0]),
        )
        shown = ", ".join(f"{path} {size:.3g}" for size, path in largest[:3])
        return TrainingError(
            f"the loss is {loss} at epoch {state.epoch + 1}, batch {state.batch} (counted from 0); the weights are as "
            f"they were before it. Largest gradients: {shown}. Lower the learning rate, clip gradients (clipnorm=1.0), "
            "and look for NaN in x and y"
        )

    # -- evaluate and predict ------------------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **unknown: Any,
    ) -> Any:
        """Loss and metrics on x and y: `[loss, metric, …]`, one number without metrics, or a dict."""
        if unknown:
            reject("evaluate", unknown, arguments_of(self.evaluate))
        self._require_compiled("evaluate", needs_loss=True)
        data = self._take(x, y, sample_weight, batch_size, steps)
        hooks = callbacks_.CallbackList(callbacks, model=self, verbose=verbose, epochs=1, steps=data.steps)
        with threads.one_blas_thread():
            logs = self._test(data, hooks)
        if return_dict:
            return logs
        values = list(logs.values())
        return values if len(values) > 1 else values[0]

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        **unknown: Any,
    ) -> np.ndarray:
        """The model's output for x, as one float32 array (n, …)."""
        if unknown:
            reject("predict", unknown, arguments_of(self.predict))
        data = self._take(x, None, None, batch_size, steps, labelled=False)
        hooks = callbacks_.CallbackList(callbacks, model=self, verbose=verbose, epochs=1, steps=data.steps)
        outputs, nodes = [], fusion.program(self.layers, False)
        with threads.one_blas_thread():
            hooks.on_predict_begin()
            for i, batch in enumerate(_limited(data)):
                hooks.on_predict_batch_begin(i)
                outputs.append(_output(nodes, batch.x))
                hooks.on_predict_batch_end(i, lambda: {})
            hooks.on_predict_end()
        if not outputs:
            raise ArgumentError("predict met no batch: the generator is exhausted")
        return np.concatenate(outputs)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One update from one batch; returns loss and metrics since the last `reset_metrics`."""
        self._require_compiled("train_on_batch", needs_loss=True)
        data: Batches = self._take(x, y, sample_weight, len(x), None)
        if class_weight is not None:
            data = self._weigh_classes(data, class_weight)
        batch = next(iter(_limited(data)))
        with threads.one_blas_thread():
            loss = self._train(batch)
        return self._report(batch, loss, return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics on one batch, without an update."""
        self._require_compiled("test_on_batch", needs_loss=True)
        batch = next(iter(_limited(self._take(x, y, sample_weight, len(x), None))))
        with threads.one_blas_thread():
            loss = self._test_batch(batch)
        return self._report(batch, loss, return_dict)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """The model's output for one batch."""
        return self.predict(x, batch_size=len(x), verbose=0)

    def reset_metrics(self) -> None:
        """Start the running loss and metrics of `train_on_batch` and `test_on_batch` anew."""
        state = self.training_state
        state.loss_sum = state.loss_count = 0.0
        for metric in self._metrics or []:
            metric.reset_state()

    def _report(self, batch: Batch, loss: float, return_dict: bool) -> Any:
        self._count(batch, loss)
        logs = self._logs()
        if return_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]

    def _test(self, data: Batches, hooks: callbacks_.CallbackList) -> dict[str, float]:
        """Loss and metrics over `data`, the training's own running sums left alone."""
        hooks.on_test_begin()
        total = count = 0.0
        with self._metrics_kept():
            for metric in self._metrics or []:
                metric.reset_state()

            def logs() -> dict[str, float]:
                return {"loss": total / max(count, 1.0), **{m.name: float(m.result()) for m in self._metrics or []}}

            for i, batch in enumerate(_limited(data)):
                hooks.on_test_batch_begin(i)
                loss = self._test_batch(batch)
                total += loss * len(batch.x)
                count += len(batch.x)
                hooks.on_test_batch_end(i, logs)
            if not count:
                raise ArgumentError("evaluate met no batch: the generator is exhausted; create a new one for each call")
            result = logs()
        hooks.on_test_end(result)
        return result

    def _test_batch(self, batch: Batch) -> float:
        x, extra = storage.put(batch.x), 0.0
        step = storage.put(_NO_STEP)
        for node in self._nodes():
            x, _, penalty = node.forward(x, step, False)
            extra += penalty
        loss = self._logits_loss or self.loss
        values, _ = losses.forward(loss, batch.y, x)
        total, _ = losses.reduce(values, batch.weight, loss.reduction)
        self._measure(batch, self._prediction(x))
        return float(total) + extra + self.optimizer.penalty(self.parameters)

    # -- what comes in -------------------------------------------------------------------------------------------------

    def _take(
        self, x: Any, y: Any, weight: Any, batch_size: int | None, steps: int | None, labelled: bool = True
    ) -> Batches:
        """Batches of checked input, with the model built to fit them."""
        if steps is not None and (not isinstance(steps, (int, np.integer)) or steps < 1):
            raise ArgumentError(f"the number of steps is {steps!r}: use an integer of 1 or more")
        data = batches(x, y, weight, batch_size, steps, self.input_shape)
        first = data.first() if isinstance(data, Stream) else Batch(data.x[:1], data.y, data.weight)
        if self.input_shape is None:
            self.build((None, *first.x.shape[1:]))
            data = batches(
                data.source if isinstance(data, Stream) else x, y, weight, batch_size, steps, self.input_shape
            )
        parameters = self.parameters
        if labelled:
            if first.y is None:
                raise ArgumentError("y is missing: give the labels of x")
            losses.check_labels(self.loss, first.y, self.output_shape)
            self.optimizer.build(parameters)
            if self._metrics is None:
                self._resolve_metrics(first.y.shape)
                self._warn_if_logits()
        if not self._warned_unscaled and type(self.layers[0]).__name__ not in ("Rescaling", "BatchNormalization"):
            self._warned_unscaled = warn_if_unscaled(data.x if isinstance(data, Arrays) else first.x)
        return data

    def _take_validation(self, validation_data: Any, batch_size: int | None, steps: int | None) -> Batches:
        if isinstance(validation_data, (tuple, list)) and 2 <= len(validation_data) <= 3:
            x, y, weight = (*validation_data, None)[:3]
            return self._take(x, y, weight, batch_size, steps)
        if isinstance(validation_data, (tuple, list, np.ndarray)):
            raise ArgumentError("validation_data must be (x, y), (x, y, sample_weight) or an iterable of batches")
        return self._take(validation_data, None, None, None, steps)

    def _weigh_classes(self, data: Batches, class_weight: Any) -> Batches:
        if not isinstance(data, Arrays):
            raise ArgumentError("class_weight needs arrays: put sample weights into the batches of a generator")
        assert data.y is not None
        weight = class_weights(class_weight, data.y)
        data.weight = weight if data.weight is None else weight * data.weight
        return data

    def _metrics_kept(self) -> _Kept:
        return _Kept(self)


class _Kept:
    """A with statement after which the running metrics are what they were."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        self.saved = [m.get_state() for m in self.trainer._metrics or []]

    def __exit__(self, *_: object) -> None:
        for metric, state in zip(self.trainer._metrics or [], self.saved, strict=False):
            metric.set_state(state)


_NO_STEP = np.zeros(1, np.int64)


def _output(nodes: list[fusion.Node], x: np.ndarray) -> np.ndarray:
    y, step = storage.put(x), storage.put(_NO_STEP)
    for node in nodes:
        y = node.forward(y, step, False)[0]
    return storage.get(y)


def _limited(data: Batches) -> Iterator[Batch]:
    for i, batch in enumerate(data.epoch(None)):
        if i == data.steps:
            return
        yield batch


def _due(frequency: Any, epoch: int) -> bool:
    return (epoch + 1) % frequency == 0 if isinstance(frequency, (int, np.integer)) else epoch + 1 in frequency
