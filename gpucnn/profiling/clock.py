"""The clock that measures one call on the CPU; `gpu_clock` has the one for a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

Run = Callable[[], object]


class Clock:
    """Measures calls on the CPU."""

    _OVERWRITTEN = 64 << 20

    def __init__(self) -> None:
        self._filler = np.zeros(self._OVERWRITTEN, np.uint8)

    def warm_up(self, run: Run) -> float:
        """Call until all is compiled and caches are filled; returns roughly the seconds of a call."""
        run()
        return min(self._seconds(run) for _ in range(3))

    def prepare(self, run: Run, repeat: int) -> Run:
        """A function that calls `run` this many times."""

        def repeated() -> None:
            for _ in range(repeat):
                run()

        return repeated

    def hot(self, run: Run) -> float:
        """Seconds of a call that finds its data in the caches, from the call before."""
        return self._seconds(run)

    def cold(self, run: Run) -> float:
        """Seconds of a call after more than the caches hold has been written."""
        self._filler += 1
        return self._seconds(run)

    def start_up(self, run: Run, hot: float) -> float:
        """Seconds of a cold call that are not the call's own: here none.

        run  what `prepare` returned for one call
        hot  seconds of a hot call
        """
        return 0.0

    def host(self, run: Run) -> float:
        """Seconds until a call returns."""
        return self._seconds(run)

    def _seconds(self, run: Run) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
