"""Trials whose faults do not reach each other: on a GPU, each family of kernels runs in its own process.

A kernel that breaks the GPU takes its process with it: every later call there fails. The trials that
remain go on in another process.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection

from ..devices import choose
from ..dispatch import op
from ..dispatch.check import cases_for
from ..errors import CompileError, GpucnnError
from .trials import Trial, every_kernel, running

Key = tuple[str, str, str, str, str]
"""Kernel, op, case, device and mode of a trial."""


@dataclass(frozen=True)
class Outcome:
    """What a trial has shown: `fault` and `not_compiled` are sentences, or None."""

    fault: str | None
    not_compiled: str | None
    seconds: float


def outcomes(planned: Sequence[Trial], load: Sequence[str] = ()) -> Iterator[Outcome]:
    """The outcome of each trial, in order.

    load  files of the user's kernels, which other processes need as well
    """
    for (_, where), trials in groupby(planned, lambda trial: (trial.kernel.id.partition("/")[0], trial.device)):
        remaining = list(trials)
        if not where.startswith("gpu"):
            yield from map(_outcome, remaining)
            continue
        while remaining:
            done = 0
            for outcome in _in_another_process(remaining, load):
                yield outcome
                done += 1
            remaining = remaining[done:]


def _outcome(trial: Trial) -> Outcome:
    start = time.perf_counter()
    fault = not_compiled = None
    try:
        fault = trial.fault()
    except CompileError as error:
        not_compiled = str(error)
    return Outcome(fault, not_compiled, round(time.perf_counter() - start, 4))


def _in_another_process(trials: Sequence[Trial], load: Sequence[str]) -> Iterator[Outcome]:
    """The outcomes up to that of a trial that breaks the GPU, at least one."""
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    keys = [(t.kernel.id, t.kernel.op.name, t.case.name, t.device, t.mode) for t in trials]
    process = processes.Process(target=_run, args=(sender, keys, tuple(load)), daemon=True)
    process.start()
    sender.close()
    done = 0
    try:
        while done < len(trials):
            yield receiver.recv()
            done += 1
    except EOFError:
        process.join()
        if not done:
            yield Outcome(f"the process that ran it ended with status {process.exitcode}", None, 0.0)
    finally:
        receiver.close()
        process.join()


def _run(sender: Connection, keys: Sequence[Key], load: Sequence[str]) -> None:
    """Run trials in this process until one of them breaks the GPU."""
    for file in load:
        op.load(file)
    kernels = {(kernel.id, kernel.op.name): kernel for kernel in every_kernel()}
    for kernel_id, op_name, case_name, where, mode in keys:
        kernel = kernels[kernel_id, op_name]
        case = next(case for case in cases_for(kernel) if case.name == case_name)
        outcome = _outcome(Trial(kernel, case, where, mode))
        sender.send(outcome)
        if outcome.fault is not None and _is_lost(where):
            sender.close()
            os._exit(0)  # CuPy would try in vain to unload its modules
    sender.close()


def _is_lost(where: str) -> bool:
    try:
        with running(where):
            choose.current().synchronize()
    except GpucnnError:
        return True
    return False
