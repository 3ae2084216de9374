"""What `fit` returns: the losses and metrics of each epoch."""

from __future__ import annotations

from html import escape
from typing import Any

from .callback import Callback


class _Curves(dict):
    """A dict whose KeyError lists the available keys."""

    def __missing__(self, key: Any) -> Any:
        raise KeyError(f"{key!r} is not in this history, which has {', '.join(map(repr, self)) or 'nothing yet'}")


_SHOWN = 10
"""Epochs at either end of a table."""


def _cell(column: list[Any], place: int) -> str:
    value = column[place] if place < len(column) else ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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

    def _repr_html_(self) -> str:
        """A table of the epochs, for notebooks; of many epochs, the first and the last ones."""
        rows = ["".join(f"<th>{escape(name)}</th>" for name in ("epoch", *self._history))]
        for place, epoch in enumerate(self.epoch):
            if _SHOWN <= place < len(self.epoch) - _SHOWN:
                if place == _SHOWN:
                    rows.append(f'<td colspan="{1 + len(self._history)}">…</td>')
                continue
            values = [escape(_cell(column, place)) for column in self._history.values()]
            rows.append("".join(f"<td>{value}</td>" for value in (f"{epoch + 1}", *values)))
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

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
