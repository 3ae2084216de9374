"""The kernels of a first training step, compiled on several cores instead of one.

Numba compiles one kernel at a time in a process. When a first step meets a kernel that is not in the
cache, a forked child goes through the step without computing, and compiles what it launches from
the end backwards, while the step itself goes forwards. They share what they compile through the
cache on disk. A kernel that the step is compiling is left out by the child, and the step waits for one
that the child is compiling, so that none is compiled twice.

For a GPU, threads compile. They are given the kernels of a step that is gone through without launches,
unless parts of it are not gpucnn's own: those may depend on values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import losses
from ..devices import choose, forks, storage, threads
from ..devices.cpu import CPU
from ..dispatch import choice
from ..dispatch.tape import Rehearsal, onto
from . import resident
from .batches import Batch
from .training_step import NO_STEP, TrainingStep, run_forward

ROWS = 8
"""Samples in the batch on which the child compiles: one for each slice of a batch."""


@contextmanager
def shared(step: TrainingStep, batch: Batch) -> Iterator[None]:
    """A context for the first step: what it has to compile is shared with another process, where there
    are two cores and a cache on disk. What a GPU needs is compiled at once, by threads."""
    device, loss = choose.current(), step.settings.loss
    if device.cc is not None:
        if not (resident.unrecordable(step.model, loss) or resident.foreign(step.model, step.settings.optimizer)):
            resident.compile_ahead(lambda: _rehearse(step, batch))
        yield
        return
    alone = threads.available() < 2 or not forks.is_possible()
    if alone or device is not CPU or choice.backend() != "njit":
        yield
        return
    from ..devices import njit

    if njit.unavailable() or njit.folder() is None:
        yield
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, njit.sharing(Path(folder), waits=True):
        claims = Path(folder)
        with njit.before_compiling(lambda: forks.aside(lambda: _compile(step, batch, claims))):
            yield


def _compile(step: TrainingStep, batch: Batch, claims: Path) -> None:
    """Compile what training on such a batch launches, the last kernel first, and then what testing does."""
    from ..devices import njit, team

    threads.use(1)  # Numba's lock is held where the child comes from: it compiles in this thread alone
    training, testing = Rehearsal(), Rehearsal()
    few = Batch(*(None if part is None else part[:ROWS] for part in batch))  # type: ignore[arg-type]
    with onto(training):
        _rehearse(step, few)
    with onto(testing):
        _rehearse_test(step, few)
    with njit.sharing(claims, waits=False), team.compiling_only():
        for launch in (*reversed(training.launches), *testing.launches):
            with suppress(njit.CompiledElsewhere):
                launch()


def _rehearse(step: TrainingStep, batch: Batch) -> None:
    """Do what `TrainingStep.train` does, whatever the values are."""
    optimizer, parameters = step.settings.optimizer, step.model.parameters
    counters = {name: array.copy() for name, array in optimizer.counters.items()}
    step.of_part(batch.x, batch, slice(0, len(batch.x)))
    parameters.gradient_norms()
    for layer in step.model.layers:
        layer.update()
    optimizer.change_weights(parameters, storage.put(optimizer.next_row().astype(parameters.values.dtype)))
    for name, array in optimizer.counters.items():
        array[...] = counters[name]


def _rehearse_test(step: TrainingStep, batch: Batch) -> None:
    """The same for `TrainingStep.test`."""
    x, _ = run_forward(step.nodes(), storage.put(batch.x), storage.put(NO_STEP))
    losses.forward(step.loss(), batch.y, x)
    step.prediction(x)
