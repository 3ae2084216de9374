"""Settings of the process that a with statement changes for its own thread or task alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class Scoped(Generic[T]):
    """A value that all threads see, unless they are inside a `scope` of their own."""

    def __init__(self, name: str, value: T) -> None:
        self._everywhere = value
        self._here: ContextVar[tuple[T] | None] = ContextVar(name, default=None)

    def get(self) -> T:
        """The value in force in this thread or task."""
        here = self._here.get()
        return self._everywhere if here is None else here[0]

    def set(self, value: T) -> None:
        """Change the value of the innermost scope, or outside of any the one that all threads see."""
        if self._here.get() is None:
            self._everywhere = value
        else:
            self._here.set((value,))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Keep changes in the body of a with statement from other threads, and undo them after it."""
        before = self._here.get()
        self._here.set((self.get(),))
        try:
            yield
        finally:
            self._here.set(before)
