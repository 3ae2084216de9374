"""Counts how often attributes of layers and weights get other values, so that what was planned for them
need not be compared with all of them each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_NOTHING = object()

_count = 0


def count() -> int:
    """How many changes there were. Read it before the attributes: those that come meanwhile count again."""
    return _count


class Counted:
    """Base of objects whose attributes are counted when they get another value."""

    if not TYPE_CHECKING:  # for which any attribute could be assigned then

        def __setattr__(self, name: str, value: Any) -> None:
            global _count
            if vars(self).get(name, _NOTHING) is not value:
                super().__setattr__(name, value)
                _count += 1

        def __delattr__(self, name: str) -> None:
            global _count
            super().__delattr__(name)
            _count += 1
