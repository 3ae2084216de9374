"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..retired import reject
from .callback import HOOKS, Callback


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
        functions = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **others,
        }
        for hook, function in functions.items():
            if function is not None:
                if not callable(function):
                    raise ArgumentError(f"LambdaCallback({hook}={function!r}) needs a function")
                setattr(self, hook, function)
