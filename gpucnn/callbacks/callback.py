"""The base of all callbacks, and the names of its hooks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..arguments import Checked

OLDER_NAMES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
"""The hooks of a training batch, and the older name of each."""


class Callback(Checked):
    """Base of all callbacks; override the hooks you need.

    `batch` and `epoch` count from 0. `logs` holds the loss and metrics so far by name, at the end
    of an epoch those of the validation too, as `val_…`.

    A checkpoint holds what `get_state` returns; a `fit` that resumes it calls `set_state` with it.
    """

    model: Any = None
    params: Mapping[str, Any] = MappingProxyType({})
    """`verbose`, `epochs` and `steps` (None if unknown) of the call."""
    each_batch = True
    """False: hooks of batches may be called once for several batches, where that is faster."""
    takes_late_logs = False
    """True: `logs` of a batch is a mapping that is computed when a hook first looks into it, which on a
    GPU waits for the batch. It must not be kept unread. False: it is a dict."""

    saves_training: ClassVar[bool] = False
    """Whether it saves checkpoints. Then it is called after all others, so that their states are
    complete, and before them in `on_train_begin`, where it may load one."""

    writes: ClassVar[bool] = False
    """Whether it writes files: where several processes train a model, rank 0 alone calls it."""

    def set_model(self, model: Any) -> None:
        """Called with the model before the first hook."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Called with `params` before the first hook."""
        self.params = params

    def follows(self, hook: str) -> bool:
        """Whether calling this hook would do anything; training skips hooks without followers."""
        names = [hook, OLDER_NAMES.get(hook, hook)]
        return any(getattr(getattr(self, n), "__func__", None) is not getattr(Callback, n) for n in names)

    def get_state(self) -> dict[str, Any]:
        """What later epochs depend on: numbers, text, None, lists, dicts and arrays by name."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned, tuples as lists; called after `on_train_begin`."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Before the first epoch of `fit`."""

    def on_train_end(self, logs: Any = None) -> None:
        """After the last epoch of `fit`, unless an error ended it."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before each epoch."""

    def on_epoch_resume(self, epoch: int, logs: Any = None) -> None:
        """Before the rest of an epoch that was interrupted, instead of `on_epoch_begin`."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """After each epoch and its validation."""

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """The older name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before each training batch (with `steps_per_execution=k` or "auto", before the first of k)."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """After each training batch (with `steps_per_execution=k` or "auto", after the last of k)."""
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
