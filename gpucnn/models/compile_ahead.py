"""The kernels of a first training step, compiled by two processes instead of one.

Numba compiles one kernel at a time in a process. When a first step meets a kernel that is not in the
cache, a forked child goes through the step without computing, and compiles what it launches from
the end backwards, while the step itself goes forwards. They share what they compile through the
cache on disk, and where they meet, at most one kernel is compiled twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import losses
from ..devices import choose, forks, storage, threads
from ..devices.cpu import CPU
from ..dispatch import choice
from ..dispatch.tape import Rehearsal, onto
from .batches import Batch
from .training_step import TrainingStep, run_forward

ROWS = 8
"""Samples in the batch on which the child compiles: one for each slice of a batch."""


@contextmanager
def shared(step: TrainingStep, batch: Batch) -> Iterator[None]:
    """A context for the first step: what it has to compile is shared with another process, where there
    are two cores and a cache on disk."""
    alone = threads.available() < 2 or not forks.is_possible()
    if alone or choose.current() is not CPU or choice.backend() != "njit":
        yield
        return
    from ..devices import njit

    if njit.unavailable() or njit.folder() is None:
        yield
        return
    with njit.before_compiling(lambda: forks.aside(lambda: _compile(step, batch))):
        yield


def _compile(step: TrainingStep, batch: Batch) -> None:
    """Compile what training on such a batch, and then testing it, launches, the last kernel first."""
    threads.use(1)  # Numba's lock is held where the child comes from: it compiles in this thread alone
    rehearsal = Rehearsal()
    with onto(rehearsal):
        _rehearse(step, Batch(*(None if part is None else part[:ROWS] for part in batch)))  # type: ignore[arg-type]
    for launch in reversed(rehearsal.launches):
        launch()


def _rehearse(step: TrainingStep, batch: Batch) -> None:
    """Do what `TrainingStep.train` and `test` do, whatever the values are."""
    optimizer, parameters = step.settings.optimizer, step.model.parameters
    now = storage.put(optimizer.batches)
    run_forward(step.nodes(), storage.put(batch.x), now)
    y, backwards, _ = step.forward(storage.put(batch.x), now)
    loss = step.loss()
    values, loss_backward = losses.forward(loss, batch.y, y)
    step.backward(backwards, loss_backward(losses.shares(values, batch.weight, loss.reduction)))
    parameters.gradient_norms()
    step.prediction(y)
    for layer in step.model.layers:
        layer.update()
    optimizer.apply(parameters)
