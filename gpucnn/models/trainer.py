"""The loops of fit, evaluate and predict over batches, with the hooks of callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from .. import distributed, losses
from ..callbacks import CallbackList, History, TerminateOnNaN
from ..callbacks.callback_list import LateLogs
from ..devices import threads
from ..errors import ArgumentError, DataError, ShapeError, warn
from ..layers.layer import Activated
from ..metrics import Metric
from . import compile_ahead, memory, parts, stream_ends
from .batches import Arrays, Batch, Batches, Stream, as_batches, class_weights, warn_if_unscaled
from .compile_settings import CompileSettings
from .inference import Inference
from .model import Model, computing
from .replaying import Replaying, together
from .resident import Turn
from .state import TrainingState, nothing_to_collect
from .training_step import TrainingStep

_SCALING = "Rescaling", "BatchNormalization"
"""Layers that scale images."""


class Trainer:
    """Trains, evaluates and applies the model that owns it.

    settings   what `compile` said; None before
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.settings: CompileSettings | None = None
        self._step: TrainingStep | None = None
        self._inference = Inference(model)
        self._warned_unscaled = False
        self._replaying = Replaying(model)

    def compile(self, settings: CompileSettings) -> None:
        """Use these settings from now on, with a new training state."""
        self.settings = settings
        self._step = TrainingStep(self.model, settings)
        self.model.training_state = self.model.training_state.anew()

    def layers_changed(self) -> None:
        """Drop what depends on the layers: the step, its metrics and the optimizer's state."""
        if self.settings is not None:
            self._step = TrainingStep(self.model, self.settings)
            self.settings.optimizer.built = False

    def require_compiled(self, method: str) -> None:
        """Raise `ArgumentError` unless the model is compiled with a loss."""
        if self.settings is None:
            raise ArgumentError(f"{method} before compile: call model.compile(optimizer, loss, metrics) first")
        if self.settings.loss is None:
            raise ArgumentError(
                f"{method} needs a loss: call model.compile(..., loss='sparse_categorical_crossentropy')"
            )

    def compiled_settings(self, name: str) -> CompileSettings:
        """The settings, of which `name` is to be changed. Raises `ArgumentError` before `compile`."""
        if self.settings is None:
            raise ArgumentError(f"model.{name} = … before compile: call model.compile(optimizer, loss, metrics) first")
        return self.settings

    @property
    def step(self) -> TrainingStep:
        """The step of the compiled model."""
        assert self._step is not None
        return self._step

    @property
    def metrics(self) -> list[Metric]:
        """The metrics of `compile`, once labels were seen, with all batches so far."""
        self.model.training_state.collect()
        return list(self._step.metrics or []) if self._step is not None else []

    # -- fit -----------------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Batches,
        held_out: Batches | None,
        epochs: int,
        initial_epoch: int,
        shuffle: bool,
        validation_freq: Any,
        callbacks: Any,
        verbose: Any,
    ) -> History:
        """Train until `epochs` epochs are done, with the validation data `held_out`."""
        model, history = self.model, History()
        callbacks = parts.prepare(model, self.step, data, callbacks, (epochs, initial_epoch, shuffle))
        hooks = CallbackList([callbacks, history], model=model, verbose=verbose, epochs=epochs, steps=data.steps)
        tolerant = any(isinstance(callback, TerminateOnNaN) for callback in hooks.callbacks)
        model.stop_training = False
        model.history = history
        self._replaying.forget()
        self._replaying.held_out = held_out
        with self._computing(data):
            hooks.on_train_begin()
            resumed = model.training_state.resume
            state = self._start(initial_epoch, history, hooks)
            logs: dict[str, float] = {}
            if resumed:
                stream_ends.skip(data, len(state.epochs), state.batch)
                stream_ends.skip(held_out, len(state.history.get("val_loss", [])))
            stopped = resumed and model.stop_training
            for epoch in range(epochs if stopped else state.epoch, epochs):
                state.epoch = epoch
                logs = self._run_epoch(data, hooks, shuffle, tolerant)
                if held_out is not None and _due(validation_freq, epoch):
                    tested = self._test(held_out, hooks, within_fit=True)
                    logs.update({f"val_{name}": value for name, value in tested.items()})
                state.end_epoch(logs)
                hooks.on_epoch_end(epoch, logs)
                state.record()
                if model.stop_training:
                    break
            state.collect = nothing_to_collect
            self._replaying.end_training()
            self.step.settings.optimizer.finalize(model.parameters)
            hooks.on_train_end(logs)
        return history

    def _start(self, initial_epoch: int, history: History, hooks: CallbackList) -> TrainingState:
        """The state that `fit` starts from: a checkpoint's if one was loaded, else a new one."""
        state, metrics = self.model.training_state, self.metrics
        if state.resume:
            state.resume = False
            history.epoch = list(state.epochs)
            history.history = {name: list(values) for name, values in state.history.items()}
            if state.metrics and len(state.metrics) != len(metrics):
                raise ArgumentError(
                    f"the checkpoint has {len(state.metrics)} metrics and the model was compiled with "
                    f"{len(metrics)}: compile it with the same ones"
                )
            for metric, saved in zip(metrics, state.metrics, strict=False):
                metric.set_state({name: np.asarray(value) for name, value in saved.items()})
            hooks.set_state(state.callbacks)
        else:
            state.shuffles += state.batch > 0  # an epoch that was cut
            state.epoch, state.batch, state.epochs, state.history = initial_epoch, 0, [], {}
        state.metrics, state.callbacks = metrics, hooks
        return state

    def _run_epoch(self, data: Batches, hooks: CallbackList, shuffle: bool, tolerant: bool) -> dict[str, float]:
        model, state = self.model, self.model.training_state
        if state.batch == 0:
            hooks.on_epoch_begin(state.epoch)
            self.reset_metrics()
        else:
            hooks.on_epoch_resume(state.epoch)
        chosen, reported = self.step.settings.steps_per_execution, state.batch
        each = 1 if chosen == "auto" else chosen
        for train, count in self._batches(data, hooks, shuffle, tolerant):
            if state.batch == reported:
                hooks.on_train_batch_begin(state.batch)
            train()
            state.batch += count
            last = state.batch == data.steps
            if last or state.batch % each == 0:
                reported = state.batch
                hooks.on_train_batch_end(state.batch - 1, LateLogs(self._logs, self._logs_lately))
            if last or model.stop_training:
                break
        if state.batch > reported:  # the stream ended between two reports
            hooks.on_train_batch_end(state.batch - 1, self._logs)
        if isinstance(data, Stream) and not model.stop_training:
            stream_ends.check_epoch(data, state.batch, state.epoch)
        if data.steps is not None:
            hooks.correct_steps(state.batch)
        return self._logs()

    def _batches(self, data: Batches, hooks: CallbackList, shuffle: bool, tolerant: bool) -> Iterator[Turn]:
        """Functions that train on the batches of the epoch, and on how many each: replayed where that is
        possible, else step by step."""
        state = self.model.training_state
        replayed = self._replaying.training(self.step, data, hooks, tolerant, self._count)
        if replayed is not None:
            several = parts.fewest(
                together(hooks, "train", self.step.settings.steps_per_execution, replayed, data.steps)
            )
            stop = data.steps or replayed.steps
            yield from replayed.epoch(state.batch, stop, state.shuffles, state.seed, shuffle, several)
            return
        order = None
        if shuffle and isinstance(data, Arrays):
            order = data.order(state.seed, state.shuffles)
        for batch in data.epoch(order, state.batch, parts.own_rows()):
            yield partial(self._train, batch, tolerant), 1

    def _train(self, batch: Batch, tolerant: bool) -> None:
        step = self.step
        with nullcontext() if step.has_run or distributed.group() else compile_ahead.shared(step, batch):
            loss = step.train(batch, tolerant)
        self._count(batch, loss)

    def _count(self, batch: Batch, loss: float) -> None:
        state, samples = self.model.training_state, len(batch.x if batch.y is None else batch.y)
        state.loss_sum += loss * samples
        state.loss_count += samples

    def _logs(self) -> dict[str, float]:
        state = self.model.training_state
        state.collect()
        return {"loss": state.loss_sum / max(state.loss_count, 1.0), **self.step.results()}

    def _logs_lately(self) -> dict[str, float]:
        """The logs of the batches before the last look, without a wait for those that are under way."""
        replayed, state = self._replaying.steps, self.model.training_state
        if replayed is None:
            return self._logs()
        replayed.glance()
        return {"loss": state.loss_sum / state.loss_count, **self.step.results()} if state.loss_count else {}

    @contextmanager
    def _computing(self, data: Batches) -> Iterator[None]:
        """A context in which batches are computed: with one BLAS thread for each thread, weights that
        stay on the device in use, the model's precision, and errors for batches too large for memory."""
        with threads.one_blas_thread(), computing(self.model), memory.explained(self.model, data):
            yield

    # -- evaluate, predict and single batches --------------------------------------------------------------------------

    def evaluate(self, data: Batches, callbacks: Any, verbose: Any) -> dict[str, float]:
        """Loss and metrics over `data`, by name."""
        hooks = CallbackList(callbacks, model=self.model, verbose=verbose, epochs=1, steps=data.steps)
        with self._computing(data):
            logs = self._test(data, hooks)
        self._replaying.end_test()
        return logs

    def _test(self, data: Batches, hooks: CallbackList, within_fit: bool = False) -> dict[str, float]:
        """Loss and metrics over `data`; the running sums of training are left alone."""
        step, sums = self.step, np.zeros(2)

        def count(batch: Batch, loss: float) -> None:
            sums[:] += loss * len(batch.x), len(batch.x)

        replayed = self._replaying.testing(step, data, hooks)
        turns: Iterator[Turn] = (
            (partial(_test_one, step, batch, count), 1) for batch in stream_ends.limited(data, hooks, within_fit)
        )
        if replayed is not None:
            penalty = step.settings.optimizer.penalty(self.model.parameters)
            replayed.count = lambda batch, loss: count(batch, loss + penalty)
            turns = replayed.batches(data.steps or replayed.steps, together(hooks, "test", 1, replayed, data.steps))

        def logs() -> dict[str, float]:
            if replayed is not None:
                replayed.collect()
            return {"loss": float(sums[0] / max(sums[1], 1.0)), **step.results()}

        hooks.on_test_begin()
        with step.separate_metrics():
            done = 0
            for test, several in turns:
                hooks.on_test_batch_begin(done)
                test()
                done += several
                hooks.on_test_batch_end(done - 1, logs)
            if not done:
                raise stream_ends.exhausted(data, within_fit)
            result = logs()
        hooks.on_test_end(result)
        return result

    def predict(self, x: Any, batch_size: int | None, steps: int | None, callbacks: Any, verbose: Any) -> np.ndarray:
        """The model's output for all batches, as one float32 array (n, …)."""
        if verbose == 0 and callbacks is None and steps is None:
            y = self._inference.replayed(x, batch_size)
            if y is not None:
                if len(x) > (batch_size or 32):
                    self._warn_if_unscaled(x, "")
                return y
            if self._inference.takes(x, batch_size):
                self._warn_if_unscaled(x, "")
                return self._inference.of_plain(x, batch_size)
        data = self.take(x, None, None, batch_size, steps, labelled=False)
        hooks = CallbackList(callbacks, model=self.model, verbose=verbose, epochs=1, steps=data.steps)
        outputs: list[np.ndarray] = []
        replayed = self._replaying.predicting(self._inference.nodes(), data, hooks)
        turns: Iterator[Turn] = (
            (partial(lambda x: outputs.append(self._inference(x)), batch.x), 1)
            for batch in stream_ends.limited(data, hooks)
        )
        if replayed is not None:
            outputs = replayed.outputs
            turns = replayed.batches(data.steps or replayed.steps, together(hooks, "predict", 1, replayed, data.steps))
        with self._computing(data):
            hooks.on_predict_begin()
            done = 0
            for predict, several in turns:
                hooks.on_predict_batch_begin(done)
                predict()
                done += several
                hooks.on_predict_batch_end(done - 1, lambda: {})
            if replayed is not None:
                replayed.collect()
                self._replaying.end_prediction(replayed)
            hooks.on_predict_end()
        if not outputs:
            raise ArgumentError("predict met no batch: the generator is exhausted")
        return np.concatenate(outputs)

    def train_on_batch(self, data: Batches) -> dict[str, float]:
        """One update; returns loss and metrics since the last `reset_metrics`, by name."""
        batch = parts.of_this_rank(next(stream_ends.limited(data)))
        with self._computing(data):
            self._train(batch, tolerant=False)
        return self._logs()

    def test_on_batch(self, data: Batches) -> dict[str, float]:
        """The same without an update."""
        batch = next(stream_ends.limited(data))
        with self._computing(data):
            self._count(batch, self.step.test(batch))
        return self._logs()

    def reset_metrics(self) -> None:
        """Set the running loss and metrics back to their start."""
        state = self.model.training_state
        state.loss_sum = state.loss_count = 0.0
        if self._step is not None:
            self._step.reset_metrics()

    # -- what comes in -------------------------------------------------------------------------------------------------

    def take(
        self,
        x: Any,
        y: Any,
        weight: Any,
        batch_size: int | None,
        steps: int | None,
        class_weight: Any = None,
        labelled: bool = True,
        kind: str = "",
    ) -> Batches:
        """Batches of checked input; builds the model and its metrics if necessary.

        kind  what warnings call the data: "training ", "validation " or nothing
        """
        model = self.model
        data = as_batches(x, y, weight, batch_size, steps, model.input_shape)
        first = data.first() if isinstance(data, Stream) else Batch(data.x[:1], data.y, data.weight)
        if model.input_shape is None:
            model.build((None, *first.x.shape[1:]))
            source = data.source if isinstance(data, Stream) else x
            data = as_batches(source, y, weight, batch_size, steps, model.input_shape)
        parameters = model.parameters
        if labelled:
            self._check_labels(first.y, x)
            self.step.settings.optimizer.build(parameters)
            if self.step.metrics is None:
                assert first.y is not None
                self.step.make_metrics(first.y.shape)
                self._warn_of_outputs()
        self._warn_if_unscaled(data.x if isinstance(data, Arrays) else first.x, kind)
        if class_weight is not None:
            _weigh_classes(data, class_weight)
        return data

    def take_validation(self, validation_data: Any, batch_size: int | None, steps: int | None) -> Batches:
        """Batches of (x, y), (x, y, sample_weight) or an iterable of batches."""
        x, y, weight = validation_data, None, None
        if isinstance(validation_data, (tuple, list)) and 2 <= len(validation_data) <= 3:
            x, y, weight = (*validation_data, None)[:3]
        elif isinstance(validation_data, (tuple, list, np.ndarray)):
            raise ArgumentError("validation_data must be (x, y), (x, y, sample_weight) or an iterable of batches")
        else:
            batch_size = None
        try:
            return self.take(x, y, weight, batch_size, steps, kind="validation ")
        except (ArgumentError, DataError, ShapeError) as error:
            raise type(error)(f"in validation_data: {error}") from error

    def _check_labels(self, y: np.ndarray | None, x: Any) -> None:
        if y is None:
            pair = isinstance(x, tuple) and len(x) == 2
            raise ArgumentError(f"y is missing: give {'x and y as two arguments' if pair else 'the labels of x'}")
        loss = self.step.settings.loss
        assert loss is not None
        losses.check_labels(loss, y, self.model.output_shape)

    def _warn_if_unscaled(self, x: np.ndarray, kind: str) -> None:
        """Warn once if images look unscaled and the model does not scale them itself."""
        if not self._warned_unscaled and type(self.model.layers[0]).__name__ not in _SCALING:
            self._warned_unscaled = warn_if_unscaled(x, kind)

    def _warn_of_outputs(self) -> None:
        """Warn if the last layer's activation and a crossentropy do not fit, or if all outputs are 1."""
        last, loss = self.model.layers[-1], self.step.settings.loss
        name = last.activation.name if isinstance(last, Activated) else None
        logits = getattr(loss, "from_logits", None)
        if name == "linear" and logits is False:
            warn(
                f"{type(loss).__name__} expects probabilities and {last.name} has no activation: give it "
                "activation='softmax' (or 'sigmoid'), or the loss from_logits=True"
            )
        elif name in ("softmax", "sigmoid") and logits:
            warn(
                f"{type(loss).__name__}(from_logits=True) applies {name} itself and {last.name} has it already: leave "
                "out one of them"
            )
        if name == "softmax" and self.model.output_shape[-1] == 1:
            warn(
                f"{last.name} is a softmax of one value, which is always 1: give it activation='sigmoid', or a unit "
                "for each class"
            )


def report(logs: dict[str, float], return_dict: bool) -> Any:
    """Logs as Keras returns them: `[loss, metric, …]`, the loss alone, or a dict."""
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]


def _weigh_classes(data: Batches, class_weight: Any) -> None:
    if not isinstance(data, Arrays):
        raise ArgumentError("class_weight needs arrays: put sample weights into the batches of a generator")
    assert data.y is not None
    weight = class_weights(class_weight, data.y)
    if data.weight is not None:
        weight = weight.reshape(-1, *(1,) * (data.weight.ndim - 1)) * data.weight
    data.weight = weight


def _test_one(step: TrainingStep, batch: Batch, count: Callable[[Batch, float], None]) -> None:
    count(batch, step.test(batch))


def _due(frequency: Any, epoch: int) -> bool:
    return (epoch + 1) % frequency == 0 if isinstance(frequency, (int, np.integer)) else epoch + 1 in frequency
