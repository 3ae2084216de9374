"""The trials of a sweep, side by side: in processes of this machine, or on the ranks of MPI.

A trial is a training run in its folder. Whatever ends it, its outcome comes back as a value.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .. import distributed, progress
from ..devices import choose, threads
from ..errors import ArgumentError, GpucnnError, Interrupted, one_line
from . import commands
from .settings import RunSettings

_LOOK_UP = 0.5
"""Seconds after which a wait for trials is interrupted, so that a signal to another thread counts too."""

FINISHED, FAILED, STOPPED = "finished", "failed", "interrupted"


@dataclass(frozen=True)
class Task:
    """One trial.

    settings  as `train` takes them
    folder    its run folder; a run in it is resumed
    load      .py files with the user's kernels
    threads   of the CPU, unless the settings say; None for a share of those of the ranks on a machine
    """

    settings: RunSettings
    folder: Path
    threads: int | None = None
    load: Sequence[str | Path] = ()


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `status` is finished, failed or interrupted; `error` one line or None."""

    folder: Path
    status: str
    error: str | None = None
    warnings: tuple[str, ...] = ()


Outcomes = Generator[Outcome, None, None]
Pool = Callable[[Iterable[Task], int], Outcomes]
"""Trains the tasks, of which there are at most so many, and yields their outcomes as they come. It takes
a task when it can be trained, so that what has ended until then may decide what the task is."""


@contextmanager
def pool(jobs: int | None) -> Iterator[Pool | None]:
    """The pool of this process: `jobs` processes, or under `mpiexec` the ranks, of which all but
    rank 0 train what rank 0 sends while they enter the context, and then get None."""
    if distributed.launched() == 1:
        yield lambda tasks, count: _in_processes(iter(tasks), count, jobs or _jobs())
        return
    if jobs is not None:
        raise ArgumentError(f"jobs={jobs}: under mpiexec each process trains one trial at a time; leave it out")
    with _ranks() as (executor, size):
        yield None if executor is None else lambda tasks, count: _on_ranks(iter(tasks), executor, size)


def train(task: Task) -> Outcome:
    """Train a trial, or resume it, in this process."""
    settings, folder = task.settings, task.folder
    own = settings.threads or task.threads or _share
    arguments = vars(settings) | {"threads": own}
    with progress.silenced(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            if (folder / "run.json").exists():
                model = settings.model if ".py" in (settings.model or "") else None
                commands.resume(folder, model=model, load=task.load, pictures=False)
            else:
                commands.train(RunSettings(**arguments), folder, load=task.load, pictures=False)
            status, error = FINISHED, None
        except (Interrupted, KeyboardInterrupt) as reason:
            status, error = STOPPED, one_line(reason)
        except (GpucnnError, OSError, MemoryError) as reason:
            status, error = FAILED, one_line(reason)
        except Exception as reason:  # of a model of the user
            status, error = FAILED, one_line(f"{type(reason).__name__}: {reason}")
    said = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    return Outcome(folder, status, error, tuple(said))


def _jobs() -> int:
    """Trials at a time on this machine, unless the user says: one on a GPU, else one for each core."""
    return 1 if choose.current().name.startswith("gpu") else threads.available()


# -- processes of this machine -----------------------------------------------------------------------------------------


def _in_processes(tasks: Iterator[Task], count: int, jobs: int) -> Outcomes:
    """Each trial in a new process, so that one which is killed takes no other with it."""
    context = multiprocessing.get_context("spawn")
    share = max(1, threads.available() // max(1, min(jobs, count)))
    running: dict[Connection, tuple[Any, Task]] = {}
    try:
        while True:
            for task in itertools.islice(tasks, jobs - len(running)):
                task = replace(task, threads=share)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(task, theirs), name=f"gpucnn {task.folder.name}")
                with _without_interrupts():  # which the child would inherit before it has a handler
                    process.start()
                theirs.close()
                running[ours] = process, task
            if not running:
                return
            for ready in wait(list(running), _LOOK_UP):
                assert isinstance(ready, Connection)
                process, task = running[ready]
                try:
                    outcome = ready.recv()
                except EOFError:
                    process.join()
                    outcome = Outcome(task.folder, FAILED, f"its process {_end(process.exitcode)}")
                process.join()
                del running[ready]
                ready.close()
                yield outcome
    finally:
        _stop([process for process, _ in running.values()])


def _child(task: Task, connection: Connection) -> None:
    """The body of a process: out of reach of Ctrl-C, and stopped, with a checkpoint, with its parent."""
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    connection.send(train(task))


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _stop(processes: Sequence[Any]) -> None:
    """Make them save a checkpoint and end; a second Ctrl-C ends them at once."""
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(status: int | None) -> str:
    if status is not None and status < 0:
        cause = "; perhaps memory ran out" if -status == 9 else ""
        return f"was ended by {signal.Signals(-status).name}{cause}"
    return f"ended with status {status}"


# -- ranks of MPI ------------------------------------------------------------------------------------------------------

_share: int | None = None
"""The threads of a trial on this rank; None for all."""


@contextmanager
def _ranks() -> Iterator[tuple[Any, int]]:
    """mpi4py's executor on rank 0, and how many ranks there are; the others serve it on the way in."""
    global _share
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is mpi4py, and no MPI library
        raise ArgumentError(
            f"this sweep was started by an MPI launcher, and mpi4py cannot be used ({error}): pip install 'gpucnn[mpi]'"
        ) from error
    here = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED).Get_size()
    cores = os.cpu_count() or 1
    _share = max(1, min(threads.available(), cores // here))
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        yield executor, MPI.COMM_WORLD.Get_size()


def _on_ranks(tasks: Iterator[Task], executor: Any, size: int) -> Outcomes:
    """The trials on all ranks, rank 0 included: whoever has finished one takes the next."""
    done, lock, running = queue.SimpleQueue[Outcome](), threading.Lock(), 0

    def take() -> Task | None:
        nonlocal running
        with lock:  # the tasks come from a generator
            task = next(tasks, None)
            running += task is not None
        return task

    def send() -> None:
        task = take()
        if task is None:
            return
        executor.submit(train, task).add_done_callback(lambda future: received(task, future))

    def received(task: Task, future: Any) -> None:
        error = future.exception()
        done.put(future.result() if error is None else Outcome(task.folder, FAILED, one_line(error)))
        send()

    for _ in range(size - 1):
        send()
    while True:
        own = take() if done.empty() else None
        if own is not None:
            done.put(train(own))
        elif not running:
            return
        outcome = done.get()
        with lock:
            running -= 1
        yield outcome
