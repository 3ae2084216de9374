"""The clock that measures one call on a GPU: CUDA events around graphs of the call."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress

import cupy

from .clock import Clock, Run


class GpuClock(Clock):
    """Measures with events on a separate stream.

    If the GPU waits while the host launches a call, events around the call measure the host. So
    calls are captured in graphs, and work is queued before the first event, which keeps the GPU
    busy until everything is queued.
    """

    def __init__(self) -> None:
        cupy.cuda.Device().synchronize()
        self._stream = cupy.cuda.Stream(non_blocking=True)
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        with self._stream:
            self._filler = cupy.zeros(max(2 * int(properties["l2CacheSize"]), 64 << 20), cupy.uint8)
        self._start, self._stop = cupy.cuda.Event(), cupy.cuda.Event()

    def warm_up(self, run: Run) -> float:
        """Compile, fill the pool, and time single calls; short ones in a graph of several."""
        with self._stream:
            run()
            self._stream.synchronize()
        once = min(self.hot(run) for _ in range(3))
        if once > 1e-3:
            return once
        several = self.prepare(run, 16)
        return min(self.hot(several) for _ in range(3)) / 16

    def prepare(self, run: Run, repeat: int) -> Run:
        """A graph of this many copies, launched as one."""
        with self._stream:
            self._stream.begin_capture()
            try:
                for _ in range(repeat):
                    run()
            except BaseException:
                with suppress(Exception):  # it fails too, and would hide the reason
                    self._stream.end_capture()
                raise
            graph = self._stream.end_capture()
        return lambda: graph.launch(self._stream)

    def hot(self, run: Run) -> float:
        """Seconds of the second of two calls in a row on the GPU."""
        with self._stream:
            run()
            return self._timed(run)

    def cold(self, run: Run) -> float:
        """Seconds of a call right after more than the L2 cache holds has been written."""
        with self._stream:
            self._filler += 1
            return self._timed(run)

    def start_up(self, run: Run, hot: float) -> float:
        """What the start of a graph takes: a hot call is in a graph of many, and a cold one alone in its
        graph. So is the second of two calls that are queued while the GPU is busy."""
        alone = []
        for _ in range(5):
            with self._stream:
                self._filler += 1
                run()
                alone.append(self._timed(run))
        return max(0.0, statistics.median(alone) - hot)

    def host(self, run: Run) -> float:
        """Seconds until a call returns to the host."""
        with self._stream:
            begin = time.perf_counter()
            run()
            spent = time.perf_counter() - begin
            self._stream.synchronize()
        return spent

    def _timed(self, run: Run) -> float:
        self._start.record(self._stream)
        run()
        self._stop.record(self._stream)
        self._stop.synchronize()
        return cupy.cuda.get_elapsed_time(self._start, self._stop) * 1e-3
