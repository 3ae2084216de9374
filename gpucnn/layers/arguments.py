"""Arguments that many layers share, checked in one way."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError


def positive(owner: str, name: str, value: Any) -> int:
    """An integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{owner}({name}={value!r}): give an integer of at least 1")
    return int(value)


def extents(owner: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    """One positive integer per spatial axis, from a tuple or from one integer for all axes."""
    sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    whole = all(isinstance(e, (int, np.integer)) and not isinstance(e, bool) and e > 0 for e in sizes)
    if len(sizes) != rank or not whole:
        each = "a positive integer" if rank == 1 else f"a positive integer or a tuple of {rank} of them"
        raise ArgumentError(f"{owner}({name}={value!r}): give {each}")
    return tuple(int(e) for e in sizes)


def padding_name(owner: str, value: Any, names: tuple[str, ...] = ("valid", "same")) -> str:
    """One of `names`, in lower case; letters of either case are accepted."""
    if isinstance(value, str) and value.lower() in names:
        return value.lower()
    hint = " (for a number of cells put a ZeroPadding layer in front)" if isinstance(value, (int, tuple, list)) else ""
    raise ArgumentError(f"{owner}(padding={value!r}): use {' or '.join(map(repr, names))}{hint}")


def check_data_format(owner: str, value: Any) -> None:
    """Accept None and `"channels_last"`."""
    if value == "channels_first":
        raise ArgumentError(
            f"{owner}(data_format='channels_first'): gpucnn keeps channels last; "
            "move the channel axis with np.moveaxis(x, 1, -1) and leave data_format out"
        )
    if value not in (None, "channels_last"):
        raise ArgumentError(f"{owner}(data_format={value!r}): use 'channels_last' or leave it out")
