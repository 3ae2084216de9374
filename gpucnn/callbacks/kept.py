"""The state of a callback as a checkpoint has it: values from a file are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from ..errors import ArgumentError
from .callback import Callback


class Kept:
    """The state of `owner`. Values of a wrong type raise `ArgumentError` with their name."""

    def __init__(self, owner: Callback, state: Mapping[str, Any]) -> None:
        self.owner, self.state = type(owner).__name__, state

    def count(self, name: str) -> int:
        """A whole number from 0."""
        value = self._value(name)
        if not _is_count(value):
            self._refuse(f"{name} is {value!r}")
        return value

    def counts(self, name: str, length: int) -> list[int]:
        """A list of so many whole numbers from 0."""
        value = self._value(name)
        if not isinstance(value, list) or len(value) != length or not all(map(_is_count, value)):
            self._refuse(f"{name} is {value!r}")
        return value

    def number(self, name: str) -> float | None:
        """A number, or None."""
        value = self._value(name)
        if value is not None and type(value) not in (int, float):
            self._refuse(f"{name} is {value!r}")
        return value

    def arrays(self, name: str) -> list[np.ndarray] | None:
        """A list of arrays, or None."""
        value = self._value(name)
        whole = isinstance(value, list) and all(isinstance(array, np.ndarray) for array in value)
        if value is not None and not whole:
            self._refuse(f"{name} is {value!r}")
        return value

    def _value(self, name: str) -> Any:
        if name not in self.state:
            self._refuse(f"{name} is missing")
        return self.state[name]

    def _refuse(self, reason: str) -> NoReturn:
        raise ArgumentError(f"the state of {self.owner} in the checkpoint cannot be used: {reason}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
