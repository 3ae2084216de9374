"""Callbacks as in Keras 3: objects whose hooks `fit`, `evaluate` and `predict` call on their way.

    class Watch(gpucnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print(epoch, logs["val_loss"])

    model.fit(x, y, callbacks=[Watch()])

`self.model` is the model; setting `self.model.stop_training = True` ends training after the batch or epoch.
"""

from __future__ import annotations

import csv
import io
import math
import string
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from . import progress, saving
from .errors import ArgumentError, FileError, TrainingError
from .files import explained, write_atomically
from .retired import absent, reject

_OLDER_NAMES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


class Callback:
    """Base of all callbacks; override the hooks you need.

    `batch` and `epoch` count from 0. `logs` holds the loss and metrics so far by name, at the end of an epoch those of
    the validation too, as `val_…`.
    """

    model: Any = None
    params: Mapping[str, Any] = MappingProxyType({})
    """`verbose`, `epochs` and `steps` (None if unknown) of the call."""

    def set_model(self, model: Any) -> None:
        """Called with the model before the first hook."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Called with `params` before the first hook."""
        self.params = params

    def follows(self, hook: str) -> bool:
        """Whether calling this hook would do anything; training leaves out batch hooks that nobody follows."""
        names = [hook, _OLDER_NAMES.get(hook, hook)]
        return any(getattr(getattr(self, n), "__func__", None) is not getattr(Callback, n) for n in names)

    def on_train_begin(self, logs: Any = None) -> None:
        """Before the first epoch of `fit`."""

    def on_train_end(self, logs: Any = None) -> None:
        """After the last epoch of `fit`, unless an error ended it."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before each epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """After each epoch and its validation."""

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """The older name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before each training batch (with `steps_per_execution=k`, before the first of k)."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """After each training batch (with `steps_per_execution=k`, after the last of k)."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Before `evaluate`, or before the validation in `fit`."""

    def on_test_end(self, logs: Any = None) -> None:
        """After `evaluate`, or after the validation in `fit`."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before each batch of `evaluate` or of the validation."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """After each batch of `evaluate` or of the validation."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Before `predict`."""

    def on_predict_end(self, logs: Any = None) -> None:
        """After `predict`."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before each batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """After each batch of `predict`."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
"""The names of all hooks."""


class CallbackList(Callback):
    """Several callbacks called as one.

    callbacks     a list, which may hold lists.
    add_history   add a `History` if there is none.
    add_progbar   add a `ProgbarLogger` if there is none; by default when `params` has a `verbose` other than 0.

    `logs` may be a function that returns them; it is called only if a callback follows the hook.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool | None = None,
        model: Any = None,
        **params: Any,
    ) -> None:
        self.callbacks = list(_flat(callbacks))
        if add_history and not any(isinstance(c, History) for c in self.callbacks):
            self.callbacks.append(History())
        if add_progbar is None:
            add_progbar = params.get("verbose", 0) != 0
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def set_model(self, model: Any) -> None:
        """Give the model to all callbacks."""
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Give the parameters to all callbacks."""
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def follows(self, hook: str) -> bool:
        """Whether any callback follows this hook."""
        return any(callback.follows(hook) for callback in self.callbacks)

    @property
    def overrides_batch_hooks(self) -> bool:
        """Whether training has to call the hooks of each batch."""
        return any(self.follows(hook) for hook in _OLDER_NAMES)

    def _call(self, hook: str, *where: int, logs: Any) -> None:
        followers = [callback for callback in self.callbacks if callback.follows(hook)]
        if followers and callable(logs):
            logs = logs()
        for callback in followers:
            getattr(callback, hook)(*where, logs)


def _forwarding(hook: str) -> Callable[..., None]:
    if hook in ("on_train_begin", "on_train_end", "on_test_begin", "on_test_end", "on_predict_begin", "on_predict_end"):

        def whole(self: CallbackList, logs: Any = None) -> None:
            self._call(hook, logs=logs)

        return whole

    def part(self: CallbackList, number: int, logs: Any = None) -> None:
        self._call(hook, number, logs=logs)

    return part


for _hook in HOOKS:
    setattr(CallbackList, _hook, _forwarding(_hook))


class _Curves(dict):
    """A dict whose KeyError lists the keys that are there."""

    def __missing__(self, key: Any) -> Any:
        raise KeyError(f"{key!r} is not in this history, which has {', '.join(map(repr, self)) or 'nothing yet'}")


class History(Callback):
    """What `fit` returns: `history` maps each metric to its values by epoch, `epoch` lists the epochs."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self._history = _Curves()

    @property
    def history(self) -> dict[str, list[Any]]:
        """The values of each metric, one for each epoch in which it was measured."""
        return self._history

    @history.setter
    def history(self, values: dict[str, list[Any]]) -> None:
        self._history = _Curves(values)

    def plot(self) -> Any:
        """The learning curves, as a matplotlib Figure: one panel for each metric, training beside validation."""
        from .plots import learning_curves

        return learning_curves(self)

    def on_train_begin(self, logs: Any = None) -> None:
        """Start counting epochs anew."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(value)
        if self.model is not None:
            self.model.history = self


class ProgbarLogger(Callback):
    """The progress that `verbose` asks for.

    0       nothing.
    1       a bar on a terminal or in a notebook, elsewhere as 2.
    2       one line for each epoch.
    "auto"  as 1, but nothing for `predict` where no bar can be drawn.
    """

    def __init__(self) -> None:
        self.verbose: Any = "auto"
        self.draws = False
        self._in_fit = False
        self._progress = progress.Progress(None, False)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take `verbose`, `epochs` and `steps`."""
        super().set_params(params)
        self.verbose = params.get("verbose", "auto")
        if self.verbose not in (0, 1, 2, "auto"):
            raise ArgumentError(f"verbose={self.verbose!r} is unknown: use 0, 1, 2 or 'auto'")
        self.draws = self.verbose in (1, "auto") and progress.is_interactive()

    def follows(self, hook: str) -> bool:
        """A bar follows the batches; so does a line that has to count them."""
        if "batch" in hook and not self.draws and self.params.get("steps") is not None:
            return False
        return self.verbose != 0 and super().follows(hook)

    def on_train_begin(self, logs: Any = None) -> None:
        """Validation is silent from here on."""
        self._in_fit = True

    def on_train_end(self, logs: Any = None) -> None:
        """Evaluations count again."""
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Name the epoch, and start the bar."""
        if self.draws and self._title(epoch):
            progress.say(self._title(epoch))
        self._start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar."""
        self._progress.update(batch + 1, logs or {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Finish the bar, or write the line of the epoch."""
        self._progress.finish(logs or {}, "" if self.draws else self._title(epoch))

    def on_test_begin(self, logs: Any = None) -> None:
        """Start the bar of an evaluation."""
        if not self._in_fit:
            self._start()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar of an evaluation."""
        if not self._in_fit:
            self._progress.update(batch + 1, logs or {})

    def on_test_end(self, logs: Any = None) -> None:
        """Finish the bar of an evaluation."""
        if not self._in_fit:
            self._progress.finish(logs or {})

    def on_predict_begin(self, logs: Any = None) -> None:
        """Start the bar of a prediction."""
        self._start()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar of a prediction."""
        self._progress.update(batch + 1, {})

    def on_predict_end(self, logs: Any = None) -> None:
        """Finish the bar of a prediction."""
        if self.draws or self.verbose != "auto":
            self._progress.finish({})

    def _start(self) -> None:
        self._progress = progress.Progress(self.params.get("steps"), self.draws)

    def _title(self, epoch: int) -> str:
        epochs = self.params.get("epochs", 1)
        return f"Epoch {epoch + 1}/{epochs}" if epochs > 1 else ""


class _Monitor(Callback):
    """A callback that watches whether one of the logs improves."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ArgumentError(f"{type(self).__name__}(mode={mode!r}) is unknown: use 'auto', 'min' or 'max'")
        self.monitor, self.mode = monitor, mode
        self.min_delta = abs(min_delta)
        self.best: float | None = None
        self._warned = False

    def on_train_begin(self, logs: Any = None) -> None:
        """A warning may be given anew."""
        self._warned = False

    def _current(self, logs: Any, consequence: str) -> float | None:
        """The monitored value; None, with one warning for each `fit`, if it is not in the logs."""
        logs = logs or {}
        if self.monitor in logs:
            return float(np.mean(logs[self.monitor]))
        if not self._warned:
            self._warned = True
            hint = "; val_… needs validation data" if self.monitor.startswith("val_") else ""
            warnings.warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which is not in the logs: {consequence}. "
                f"Available are {', '.join(logs) or 'none'}{hint}",
                stacklevel=4,
            )
        return None

    def _improves(self, current: float, reference: float | None) -> bool:
        """Whether `current` beats `reference` by more than `min_delta`; NaN never does."""
        if reference is None:
            return not math.isnan(current)
        return current + self.min_delta < reference if self._falls() else current - self.min_delta > reference

    def _falls(self) -> bool:
        """Whether lower is better."""
        if self.mode != "auto":
            return self.mode == "min"
        name = self.monitor.removeprefix("val_")
        directions = {m.name: m.direction for m in getattr(self.model, "metrics", [])} | {"loss": "down"}
        if directions.get(name) is None:
            raise ArgumentError(
                f"{type(self).__name__} cannot tell whether {self.monitor!r} should rise or fall: give mode='max' or "
                "mode='min'"
            )
        return directions[name] == "down"


class ModelCheckpoint(_Monitor):
    """Saves the model (or its weights) after each epoch, or after each `save_freq` batches.

    filepath        ends in `.safetensors`; `{epoch:02d}`, `{batch}` and logs such as `{val_loss:.2f}` are filled in,
                    folders are made.
    save_best_only  save only when `monitor` improves, and is better than `initial_value_threshold` if that is given.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Any = "epoch",
        initial_value_threshold: float | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            known = "filepath monitor verbose save_best_only save_weights_only mode save_freq initial_value_threshold"
            reject("ModelCheckpoint", unknown, known.split())
        super().__init__(monitor, mode)
        self.filepath = _checked_path(str(filepath))
        self.verbose = verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.save_freq = _checked_frequency("ModelCheckpoint", save_freq)
        self.best = initial_value_threshold
        self._epoch = 0
        self._batches = _Batches()

    def follows(self, hook: str) -> bool:
        """It follows the batches only if it saves between them."""
        return super().follows(hook) and not (hook == "on_train_batch_end" and self.save_freq == "epoch")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if enough batches have passed."""
        if self.save_freq != "epoch" and self._batches.passed(batch, self.save_freq):
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})}, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save if it is done by epochs."""
        if self.save_freq == "epoch":
            self._save(epoch, logs or {}, logs)

    def _save(self, epoch: int, fields: dict[str, Any], logs: Any) -> None:
        try:
            path = self.filepath.format(epoch=epoch + 1, **fields)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ArgumentError(
                f"ModelCheckpoint cannot fill in filepath={self.filepath!r}: there are {', '.join(['epoch', *fields])}"
            ) from error
        if self.save_best_only and not self._is_best(epoch, logs):
            return
        with explained("make the folder of", path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(path, overwrite=True)
        if self.verbose:
            progress.say(f"Epoch {epoch + 1}: saved {path}")

    def _is_best(self, epoch: int, logs: Any) -> bool:
        current = self._current(logs, "every checkpoint is kept")
        if current is None:
            return True
        before = "" if self.best is None else f" from {self.best:.5f}"
        improved = self._improves(current, self.best)
        if improved:
            self.best = current
        if self.verbose:
            change = f"improved{before} to {current:.5f}" if improved else f"did not improve{before}"
            progress.say(f"Epoch {epoch + 1}: {self.monitor} {change}")
        return improved


class EarlyStopping(_Monitor):
    """Stops training once `monitor` has not improved for `patience` epochs.

    min_delta             a smaller change is no improvement.
    baseline              epochs count as without improvement until this value is beaten.
    restore_best_weights  at the end, take the weights of the best epoch.
    start_from_epoch      look at no epoch before this one.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose = patience, verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.best_epoch = self.stopped_epoch = self.wait = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Start anew."""
        super().on_train_begin(logs)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look whether the epoch was an improvement."""
        current = self._current(logs, "training is not stopped early")
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        improved = self._improves(current, self.best)
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        if improved:
            self.best, self.best_epoch = current, epoch
            if self.baseline is None or self._improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Restore the best weights."""
        if self.stopped_epoch and self.verbose:
            progress.say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                progress.say(f"Restoring the weights of the best epoch, {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by `factor` once `monitor` has not improved for `patience` epochs.

    min_delta  a smaller change is no improvement.
    cooldown   epochs to wait after a reduction before looking again.
    min_lr     the learning rate never falls below this.

    Adds `learning_rate` to the logs.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **unknown: Any,
    ) -> None:
        if unknown:
            known = "monitor factor patience verbose mode min_delta cooldown min_lr"
            reject("ReduceLROnPlateau", unknown, known.split(), {"epsilon": "min_delta"})
        if not 0 <= factor < 1:
            raise ArgumentError(f"ReduceLROnPlateau(factor={factor!r}) must be below 1, such as 0.1")
        super().__init__(monitor, mode, min_delta)
        self.factor, self.min_lr = factor, min_lr
        self.patience, self.cooldown = patience, cooldown
        self.verbose = verbose
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Start anew, and make sure that no schedule decides on the learning rate."""
        super().on_train_begin(logs)
        self.model.optimizer.learning_rate = self.model.optimizer.learning_rate
        self.best = None
        self.wait = self.cooldown_counter = 0

    def in_cooldown(self) -> bool:
        """Whether it still waits after a reduction."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look whether the epoch was an improvement."""
        logs = {} if logs is None else logs
        current = self._current(logs, "the learning rate stays as it is")
        logs["learning_rate"] = self.model.optimizer.learning_rate
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(current, self.best):
            self.best, self.wait = current, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        if optimizer.learning_rate <= self.min_lr:
            return
        optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose:
            progress.say(f"Epoch {epoch + 1}: learning rate reduced to {optimizer.learning_rate:g}")


class LearningRateScheduler(Callback):
    """Sets the learning rate of each epoch to `schedule(epoch, learning_rate)`; adds `learning_rate` to the logs."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise ArgumentError(f"LearningRateScheduler({schedule!r}) needs a function of epoch and learning rate")
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the learning rate."""
        optimizer = self.model.optimizer
        arguments = (epoch, optimizer.learning_rate)
        rate = self.schedule(*arguments[: _arguments_taken(self.schedule, 2)])
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not math.isfinite(rate):
            raise ArgumentError(f"the schedule returned {rate!r} for epoch {epoch}: it must return the learning rate")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            progress.say(f"Epoch {epoch + 1}: learning rate {float(rate):g}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the learning rate to the logs."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class CSVLogger(Callback):
    """Writes the logs of each epoch as a line of a CSV file, after the column `epoch`.

    With `append`, lines that are in the file stay, and columns that either lacks hold NA; without, the file is replaced
    once the first epoch is over. Each write leaves the old or the new file whole.
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise ArgumentError(f"CSVLogger(separator={separator!r}) must be one character, such as ',' or '\\t'")
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Read the lines that stay, and make sure that the file can be written."""
        self._columns, self._rows = [], []
        content = b""
        with explained("read", self.filename), suppress(FileNotFoundError):
            content = self.filename.read_bytes()
        if self.append:
            self._read(content)
        write_atomically(self.filename, content)

    def _read(self, content: bytes) -> None:
        wrong = f"{self.filename} is not a CSV file with one header: choose another file, or append=False"
        try:
            text = io.StringIO(content.decode("utf-8-sig"), newline="")
            header, *lines = [line for line in csv.reader(text, delimiter=self.separator) if line] or [[]]
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileError(wrong) from error
        if len(set(header)) < len(header) or any(len(line) > len(header) for line in lines):
            raise FileError(wrong)
        self._columns = header
        self._rows = [dict(zip(header, line, strict=False)) for line in lines]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the line of the epoch."""
        names = sorted(logs or {})
        if not self._columns and not any(name.startswith("val_") for name in names):
            names += [f"val_{name}" for name in names]
        self._columns += [name for name in ("epoch", *names) if name not in self._columns]
        self._rows.append({"epoch": epoch, **{name: _cell(value) for name, value in (logs or {}).items()}})
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="NA", delimiter=self.separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self.filename, text.getvalue().encode())


class LambdaCallback(Callback):
    """A callback made of functions; each hook of `Callback` is an argument.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **others: Callable[..., Any] | None,
    ) -> None:
        unknown = {name: function for name, function in others.items() if name not in HOOKS}
        if unknown:
            reject("LambdaCallback", unknown, HOOKS)
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **others,
        }
        for hook, function in given.items():
            if function is not None:
                if not callable(function):
                    raise ArgumentError(f"LambdaCallback({hook}={function!r}) needs a function")
                setattr(self, hook, function)


class TerminateOnNaN(Callback):
    """Stops training after a batch whose loss is NaN or infinite; with `raise_error` it raises `TrainingError`.

    Without this callback such a loss raises `TrainingError` too, with the largest gradients.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise TrainingError(f"the loss is {loss} at batch {batch} (counted from 0): TerminateOnNaN stops training")
        progress.say(f"Batch {batch}: the loss is {loss}, training ends")
        self.model.stop_training = True


class BackupAndRestore(Callback):
    """Lets a `fit` that was interrupted go on where it was, when the same program is started again.

    It saves a checkpoint in `backup_dir` after each epoch (or each `save_freq` batches), and at the start of `fit`
    restores the one it finds. At the end the checkpoint is deleted unless `delete_checkpoint` is False.
    """

    def __init__(
        self,
        backup_dir: Any,
        save_freq: Any = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        if not backup_dir:
            raise ArgumentError(f"BackupAndRestore(backup_dir={backup_dir!r}): give the path of a folder")
        if double_checkpoint:
            raise ArgumentError(
                "BackupAndRestore(double_checkpoint=True): one is enough, since a write replaces it whole"
            )
        self.path = Path(backup_dir) / f"latest{saving.SUFFIX}"
        self.save_freq = _checked_frequency("BackupAndRestore", save_freq)
        self.delete_checkpoint = delete_checkpoint
        self._batches = _Batches()

    def follows(self, hook: str) -> bool:
        """It follows the batches only if it saves between them."""
        return super().follows(hook) and not (hook == "on_train_batch_end" and self.save_freq == "epoch")

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the checkpoint if there is one."""
        with explained("make the folder", self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            saving.load_checkpoint(self.path, self.model)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if enough batches have passed."""
        if self.save_freq != "epoch" and self._batches.passed(batch, self.save_freq):
            saving.save_checkpoint(self.path, self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save if it is done by epochs."""
        if self.save_freq == "epoch":
            saving.save_checkpoint(self.path, self.model)

    def on_train_end(self, logs: Any = None) -> None:
        """Delete the checkpoint, and the folder if nothing else is in it."""
        if not self.delete_checkpoint:
            return
        with explained("delete", self.path):
            self.path.unlink(missing_ok=True)
        with suppress(OSError):  # the folder is not empty
            self.path.parent.rmdir()


class _Batches:
    """Counts batches across epochs, also when some are not reported one by one."""

    def __init__(self) -> None:
        self._last = -1
        self._since = 0

    def passed(self, batch: int, count: int) -> bool:
        """Whether `count` batches have passed since this last was True; `batch` is the one just trained."""
        self._since += batch - self._last if batch > self._last else batch + 1
        self._last = batch
        if self._since < count:
            return False
        self._since = 0
        return True


def _flat(callbacks: Any) -> Iterable[Callback]:
    if callbacks is None:
        return
    if isinstance(callbacks, CallbackList):
        callbacks = callbacks.callbacks
    if isinstance(callbacks, (list, tuple)):
        for callback in callbacks:
            yield from _flat(callback)
    elif isinstance(callbacks, Callback):
        yield callbacks
    elif isinstance(callbacks, type) and issubclass(callbacks, Callback):
        raise ArgumentError(f"callbacks holds the class {callbacks.__name__}: write {callbacks.__name__}(...)")
    else:
        raise ArgumentError(
            f"{callbacks!r} is not a callback: subclass gpucnn.callbacks.Callback, or use LambdaCallback"
        )


def _checked_path(filepath: str) -> str:
    if not filepath.endswith(saving.SUFFIX):
        raise ArgumentError(
            f"ModelCheckpoint(filepath={filepath!r}) ends in {Path(filepath).suffix or 'no suffix'!r}: gpucnn writes "
            f"{saving.SUFFIX} files, such as {Path(filepath).name.split('.')[0] or 'model'}{saving.SUFFIX}"
        )
    try:
        list(string.Formatter().parse(filepath))
    except ValueError as error:
        raise ArgumentError(f"ModelCheckpoint(filepath={filepath!r}): {error}; write {{epoch:02d}}") from error
    return filepath


def _checked_frequency(owner: str, save_freq: Any) -> Any:
    whole = isinstance(save_freq, (int, np.integer)) and not isinstance(save_freq, bool) and save_freq > 0
    if save_freq != "epoch" and not whole:
        raise ArgumentError(f"{owner}(save_freq={save_freq!r}) must be 'epoch' or a number of batches")
    return save_freq


def _arguments_taken(function: Callable[..., Any], at_most: int) -> int:
    """How many positional arguments a function accepts, up to `at_most`."""
    try:
        kinds = [p.kind for p in signature(function).parameters.values()]
    except (TypeError, ValueError):
        return at_most
    if any(kind is kind.VAR_POSITIONAL for kind in kinds):
        return at_most
    return min(at_most, sum(kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD) for kind in kinds))


def _cell(value: Any) -> Any:
    """A number as it is, an array as "[1, 2]"."""
    plain = np.asarray(value).tolist()
    return f"[{', '.join(map(str, plain))}]" if isinstance(plain, list) else plain


__getattr__ = absent(
    __name__,
    {
        "TensorBoard": "use CSVLogger, or `gpucnn plot RUN` for curves",
        "RemoteMonitor": "use LambdaCallback(on_epoch_end=...) to send the logs",
        "SwapEMAWeights": "with use_ema=True the optimizer's average replaces the weights at the end of training",
        "OrbaxCheckpoint": "use ModelCheckpoint or BackupAndRestore",
        "BaseLogger": "the logs hold means over the epoch already",
    },
)
