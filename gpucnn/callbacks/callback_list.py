"""Several callbacks called as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from ..errors import ArgumentError, warn
from .callback import Callback
from .history import History
from .progbar_logger import ProgbarLogger


class LateLogs(Mapping[str, float]):
    """Logs that a function computes when a hook looks into them: on a GPU this waits.

    lately  computes those of a moment ago, for which a GPU need not stop; by default the same
    """

    def __init__(
        self, function: Callable[[], dict[str, float]], lately: Callable[[], dict[str, float]] | None = None
    ) -> None:
        self._function = function
        self.lately: Callable[[], Mapping[str, float]] = lately or (lambda: self._logs)

    @cached_property
    def _logs(self) -> dict[str, float]:
        return self._function()

    def copy(self) -> dict[str, float]:
        """The logs as a dict."""
        return dict(self._logs)

    def __getitem__(self, name: str) -> float:
        return self._logs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._logs)

    def __len__(self) -> int:
        return len(self._logs)

    def __repr__(self) -> str:
        return repr(self._logs)


class CallbackList(Callback):
    """Several callbacks called as one.

    callbacks     a list, which may hold lists.
    add_history   add a `History` if there is none.
    add_progbar   add a `ProgbarLogger` if there is none; by default if `verbose` is not 0.

    `logs` may be a function that returns them; it is called once, and only if it is needed.
    """

    params: dict[str, Any]

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

    def correct_steps(self, steps: int) -> None:
        """Put how many steps there really were into the parameters, which all callbacks share."""
        self.params["steps"] = steps

    def set_model(self, model: Any) -> None:
        """Give the model to all callbacks."""
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Give the parameters to all callbacks."""
        self.params = dict(params)
        for callback in self.callbacks:
            callback.set_params(self.params)

    def follows(self, hook: str) -> bool:
        """Whether any callback follows this hook."""
        return any(callback.follows(hook) for callback in self.callbacks)

    def get_state(self) -> dict[str, Any]:
        """The states of the callbacks in their order, by the names of their classes."""
        states = {name: [_state_of(callback) for callback in group] for name, group in self._by_class().items()}
        return {name: group for name, group in states.items() if any(group)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Give the states back. A warning names the classes of which there is another number now."""
        for name, group in self._by_class().items():
            states = state.get(name, [])
            if len(states) == len(group):
                for callback, its_state in zip(group, states, strict=True):
                    callback.set_state(its_state)
            elif states:
                anew = "it starts anew" if len(group) == 1 else "they start anew"
                warn(f"the checkpoint has the state of {len(states)} {name} and fit was given {len(group)}: {anew}")

    def _by_class(self) -> dict[str, list[Callback]]:
        groups: dict[str, list[Callback]] = {}
        for callback in self.callbacks:
            groups.setdefault(type(callback).__name__, []).append(callback)
        return groups

    def following_each(self, *hooks: str) -> list[str]:
        """The classes of callbacks that follow one of these hooks and want it for each batch."""
        following = [c for c in self.callbacks if c.each_batch and any(map(c.follows, hooks))]
        return list(dict.fromkeys(type(callback).__name__ for callback in following))

    def on_train_begin(self, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_train_begin", logs=logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_train_end", logs=logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_epoch_begin", epoch, logs=logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_epoch_end", epoch, logs=logs)

    def on_epoch_resume(self, epoch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_epoch_resume", epoch, logs=logs)

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_batch_begin", batch, logs=logs)

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_batch_end", batch, logs=logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_train_batch_begin", batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_train_batch_end", batch, logs=logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_test_begin", logs=logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_test_end", logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_test_batch_begin", batch, logs=logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_test_batch_end", batch, logs=logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_predict_begin", logs=logs)

    def on_predict_end(self, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_predict_end", logs=logs)

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_predict_batch_begin", batch, logs=logs)

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Call the hook of all callbacks that follow it."""
        self._call("on_predict_batch_end", batch, logs=logs)

    def _call(self, hook: str, *number: int, logs: Any) -> None:
        if callable(logs):
            logs = LateLogs(logs)
        followers = [callback for callback in self.callbacks if callback.follows(hook)]
        followers.sort(key=lambda callback: callback.saves_training != (hook == "on_train_begin"))
        for callback in followers:
            late = isinstance(logs, LateLogs) and not callback.takes_late_logs
            getattr(callback, hook)(*number, logs.copy() if late else logs)


def _state_of(callback: Callback) -> dict[str, Any]:
    state = callback.get_state()
    if not isinstance(state, dict):
        owner = type(callback).__name__
        raise ArgumentError(f"{owner}.get_state() returned a {type(state).__name__}: return a dict")
    return state


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
