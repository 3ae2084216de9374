"""How long does this take on this device: hot and cold, with its spread, after it has been warmed up.

Hot is the same call on the same arrays again and again: what stays in a cache is there. Cold is one call after all
caches were overwritten: what a call costs that meets its operands in memory. On a GPU both are measured by events on
the stream, hot ones over a graph of many copies, so that the host's launches do not count; the host's time is told
beside it.
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
"""Seconds that one hot sample should take at least: repetitions are added until it does."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: at least `min_samples` and `min_time` seconds, and beyond that until the relative distance
    of the 10th and 90th percentile is below `max_noise`, or `timeout` seconds are over."""

    min_samples: int = 10
    min_time: float = 0.2
    max_noise: float = 0.05
    timeout: float = 5.0


_FEW = Effort(min_samples=5, min_time=0.0, max_noise=float("inf"), timeout=1.0)
"""For the time on the host, which is told beside the others."""


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
        """The distance of the percentiles, relative to the median."""
        return (self.high - self.low) / self.median


@dataclass(frozen=True)
class Measured:
    """What `measure` found; `host` is the time until a call that was not captured returns to the host."""

    hot: Timing
    cold: Timing
    host: float


def measure(run: Run, effort: Effort | None = None) -> Measured:
    """Time `run`, a call without arguments that works on the device in use."""
    effort = effort or Effort()
    clock = clock_of_device()
    once = clock.warm_up(run)
    repeat = max(1, min(1000, round(_LEAST / max(once, 1e-9))))
    many, one = clock.prepare(run, repeat), clock.prepare(run, 1)
    clock.hot(many)
    return Measured(
        _collect(lambda: clock.hot(many) / repeat, effort),
        _collect(lambda: clock.cold(one), effort),
        _collect(lambda: clock.host(run), _FEW).median,
    )


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
