"""How long a call takes on the device in use: hot and cold, with the spread of samples.

Hot calls repeat on the same arrays, which stay in the caches. A cold call comes after all caches
have been overwritten, and finds its operands in memory. On a GPU both are measured by events on the
stream, hot ones over a graph of many copies, so that launches by the host do not count, and the start
of the graph of a cold one is subtracted; the time on the host is reported separately.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..devices import choose
from ..devices.cpu import CPU
from .clock import Clock, Run

_LEAST = 100e-6
"""Seconds: a call is repeated until one hot sample takes at least this long."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: at least `min_samples` and `min_time` seconds, then until the noise (see
    `Timing`) is at most `max_noise` or `timeout` seconds have passed."""

    min_samples: int = 10
    min_time: float = 0.2
    max_noise: float = 0.05
    timeout: float = 5.0


_FEW = Effort(min_samples=5, min_time=0.0, max_noise=float("inf"), timeout=1.0)
"""The effort for the time on the host."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, 10th and 90th percentile over the samples."""

    median: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, samples: list[float]) -> Timing:
        """The percentiles of these seconds."""
        low, high = np.percentile(samples, [10, 90])
        return cls(statistics.median(samples), float(low), float(high), len(samples))

    @property
    def noise(self) -> float:
        """The distance between the percentiles, relative to the median."""
        return (self.high - self.low) / self.median


@dataclass(frozen=True)
class Measurement:
    """The result of `measure`; `host` is the time until a call outside of a graph returns."""

    hot: Timing
    cold: Timing
    host: float


def measure(run: Run, effort: Effort | None = None) -> Measurement:
    """Time `run`, a call without arguments that works on the device in use."""
    effort = effort or Effort()
    clock = clock_of_device()
    hot = measure_hot(run, effort, clock)
    one = clock.prepare(run, 1)
    start_up = clock.start_up(one, hot.median)
    return Measurement(
        hot,
        _collect(lambda: max(clock.cold(one) - start_up, hot.low), effort),
        _collect(lambda: clock.host(run), _FEW).median,
    )


def measure_hot(run: Run, effort: Effort, clock: Clock) -> Timing:
    """Time `run` on the same arrays again and again."""
    once = clock.warm_up(run)
    repeat = max(1, min(1000, round(_LEAST / max(once, 1e-9))))
    many = clock.prepare(run, repeat)
    clock.hot(many)
    return _collect(lambda: clock.hot(many) / repeat, effort)


def clock_of_device() -> Clock:
    """The clock of the device in use."""
    if choose.current() is CPU:
        return Clock()
    from .gpu_clock import GpuClock

    return GpuClock()


def _collect(sample: Callable[[], float], effort: Effort) -> Timing:
    samples: list[float] = []
    start = time.perf_counter()
    while True:
        samples.append(sample())
        spent = time.perf_counter() - start
        if spent >= effort.timeout:
            return Timing.of(samples)
        if len(samples) >= effort.min_samples and spent >= effort.min_time:
            timing = Timing.of(samples)
            if timing.noise <= effort.max_noise:
                return timing
