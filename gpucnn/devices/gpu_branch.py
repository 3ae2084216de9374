"""Work of a GPU beside that of the current stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cupy


class GpuBranch:
    """A stream that forks from the current one and joins it; a capture of that one captures both.

    CuPy's pools keep the memory of each stream apart: what is allocated and freed on the branch is used again
    there alone.
    """

    def __init__(self) -> None:
        self._stream, self._is_open = cupy.cuda.Stream(non_blocking=True), False
        self._held: list[Any] = []

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The launches in the body of the with statement follow those so far, and nothing waits for them
        until `join`."""
        self._stream.wait_event(cupy.cuda.get_current_stream().record())
        self._is_open = True
        with self._stream:
            yield

    def hold(self, arrays: tuple[Any, ...]) -> None:
        """Keep arrays until `join` if the branch is the current stream: it reads memory of another one."""
        if cupy.cuda.get_current_stream() == self._stream:
            self._held.append(arrays)

    def join(self) -> None:
        """What is launched on the current stream from here on follows the branch."""
        if self._is_open:
            cupy.cuda.get_current_stream().wait_event(self._stream.record())
        self._is_open = False
        self._held.clear()
