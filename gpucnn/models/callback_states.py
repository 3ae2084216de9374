"""The states of callbacks in a checkpoint: JSON for the values, tensors for the arrays in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError

PREFIX = "callbacks/"
"""The names of the tensors begin with it."""


def apart(states: dict[str, list[Any]]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The states by class as JSON values, and the arrays in them, to which `{"array": name}` points.

    Raises `ArgumentError` for anything that neither can hold.
    """
    arrays: dict[str, np.ndarray] = {}
    return {owner: [_plain(state, owner, arrays) for state in group] for owner, group in states.items()}, arrays


def together(states: Any, arrays: dict[str, np.ndarray]) -> dict[str, list[Any]]:
    """The states with their arrays again. Raises `ArgumentError` unless they are lists of dicts."""
    groups = list(states.values()) if isinstance(states, dict) else [None]
    if not all(isinstance(group, list) and all(isinstance(state, dict) for state in group) for group in groups):
        raise ArgumentError(f"the states of callbacks are {states!r}")
    return {owner: [_filled(state, arrays) for state in group] for owner, group in states.items()}


def _filled(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {name: _filled(item, arrays) for name, item in value.items()}
    return [_filled(item, arrays) for item in value] if isinstance(value, list) else value


def _plain(value: Any, owner: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, owner, arrays) for item in value]
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise ArgumentError(f"the state of {owner} has the name {name!r}: names are text")
        return {name: _plain(item, owner, arrays) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise ArgumentError(f"the state of {owner} holds an array of dtype {value.dtype}: give numbers")
        name = f"{PREFIX}{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    kind = type(value).__name__
    raise ArgumentError(f"the state of {owner} holds an object of {kind}: give numbers, text, lists, dicts and arrays")
