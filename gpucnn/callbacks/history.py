"""What `fit` returns: the losses and metrics of each epoch."""

from __future__ import annotations

from typing import Any

from .callback import Callback


class _Curves(dict):
    """A dict whose KeyError lists the available keys."""

    def __missing__(self, key: Any) -> Any:
        raise KeyError(f"{key!r} is not in this history, which has {', '.join(map(repr, self)) or 'nothing yet'}")


class History(Callback):
    """What `fit` returns: `history` has the values of each metric, `epoch` the epochs."""

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
        """The learning curves as a matplotlib Figure, one panel for each metric."""
        from .curves import learning_curves

        return learning_curves(self)

    def on_train_begin(self, logs: Any = None) -> None:
        """Start a new list of epochs."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(value)
        if self.model is not None:
            self.model.history = self
