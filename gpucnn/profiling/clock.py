"""A clock for calls on the CPU; `gpu_clock` has the one for a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

Run = Callable[[], object]


class Clock:
    """Measures on the CPU; `gpu_clock.GpuClock` on a GPU."""

    _OVERWRITTEN = 64 << 20

    def __init__(self) -> None:
        self._filler = np.zeros(self._OVERWRITTEN, np.uint8)

    def warm_up(self, run: Run) -> float:
        """Call until everything is compiled and caches are filled; returns roughly the seconds of one call."""
        run()
        return min(self._seconds(run) for _ in range(3))

    def prepare(self, run: Run, repeat: int) -> Run:
        """What calls `run` that many times."""

        def repeated() -> None:
            for _ in range(repeat):
                run()

        return repeated

    def hot(self, run: Run) -> float:
        """Seconds of a call on what the caches hold of the one before."""
        return self._seconds(run)

    def cold(self, run: Run) -> float:
        """Seconds of a call after more than the caches hold was written."""
        self._filler += 1
        return self._seconds(run)

    def host(self, run: Run) -> float:
        """Seconds until a call returned."""
        return self._seconds(run)

    def _seconds(self, run: Run) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
