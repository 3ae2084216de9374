"""Trainings of several processes: how one joins the others, and how they are started, and started again
when one is killed, hangs or runs out of memory.

`mpiexec` ends with its processes, so the process that starts it again is one outside of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .. import distributed
from ..errors import ArgumentError, FileError, warn
from ..progress import say
from ..runs.run import Run

_ARGUMENTS = "gpucnn.arguments"
"""Where a context keeps them."""

_STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}
"""Exit statuses of a training that was asked to stop."""


class KeepsArguments(click.Command):
    """A command whose context keeps the arguments as they were written, in `meta`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As usual."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


def join(parts: int | None, time_limit: float, resumed: bool) -> int:
    """Join the processes of this training, if it has several or computes in parts; returns how many they
    are."""
    processes = distributed.launched()
    if processes == 1 and parts is None:
        return 1
    more = resumed and parts is not None and parts < processes
    group = distributed.start(None if more else parts, time_limit)
    if group.rank:
        warnings.simplefilter("ignore")
    if resumed and group.parts != (parts or 1):
        warn(
            f"batches were cut into {parts or 1} parts and are now cut into {group.parts}: the last bits will differ "
            "from an uninterrupted run"
        )
    return group.size


def supervise(context: click.Context, folder: str | None, ranks: int | None, restarts: int) -> int:
    """Run `gpucnn train` in new processes, and again while that may help; returns the last exit status.

    context   of the command, a `KeepsArguments`
    folder    of the run; needed for restarts
    ranks     how many MPI processes; None for one without MPI
    restarts  how often at most

    Raises `ArgumentError` if there is no mpiexec, if this process is one of several already, or if a restart
    would not know the folder.
    """
    if restarts and folder is None:
        raise ArgumentError("--restarts needs to know the folder of the run: give it with --out FOLDER")
    if distributed.launched() > 1:
        raise ArgumentError("mpiexec has started this process: leave out --ranks and --restarts")
    command = [*mpiexec(ranks), sys.executable, "-m", "gpucnn", "train"]
    first = [*command, *_without(context.meta[_ARGUMENTS], "--ranks", "--restarts")]
    status = _run(first)
    for restart in range(1, restarts + 1):
        assert folder is not None
        state = _state(folder)
        if status > 128 and state == "finished":
            say(f"gpucnn: a process was killed when the run was finished: its results are in {folder}")
            return 0
        if status in _STOPPED or state == "finished" or not _may_help(status, begun=state is not None):
            break
        say(f"gpucnn: the training ended with status {status}: restart {restart} of {restarts}, from {_newest(folder)}")
        status = _run([*command, "--resume", folder, *_repeated(context.params)] if state is not None else first)
    return status


def mpiexec(ranks: int | None) -> list[str]:
    """What starts so many MPI processes of the command behind it: the mpiexec next to this Python, else that
    of the system; nothing for None. Raises `ArgumentError` without one."""
    if ranks is None:
        return []
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    program = beside if os.access(beside, os.X_OK) else shutil.which("mpiexec")
    if program is None:
        raise ArgumentError(f"--ranks {ranks} needs an mpiexec, and there is none: pip install 'gpucnn[mpi]'")
    return [program, "-n", str(ranks)]


def _without(arguments: Sequence[str], *options: str) -> list[str]:
    """The arguments without these options and their values."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in options:
            next(rest, None)
        elif argument.partition("=")[0] not in options:
            kept.append(argument)
    return kept


def _run(command: list[str]) -> int:
    """The exit status, as a shell has it. A request to stop this process is passed on."""
    with subprocess.Popen(command) as process, _passing_on(process):
        status = process.wait()
    return 128 - status if status < 0 else status


@contextmanager
def _passing_on(process: subprocess.Popen) -> Iterator[None]:
    """SIGTERM goes to the other process, which Ctrl-C reaches by itself."""

    def terminate(*_: Any) -> None:
        process.terminate()

    handlers: dict[signal.Signals, Any] = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: terminate}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _may_help(status: int, begun: bool) -> bool:
    """Whether another start may end otherwise: a signal has killed this one, or what stopped it may pass and
    came after the training had begun."""
    return status > 128 or (begun and status == distributed.MAY_PASS)


def _state(folder: str) -> str | None:
    """The status of the run in a folder; None if there is no run yet."""
    try:
        return Run.open(folder).record["status"]
    except FileError:
        return None


def _newest(folder: str) -> str:
    """What a restart goes on from, in words."""
    paths = Run(Path(folder), {}).checkpoints()
    return f"the checkpoint {paths[-1].name}" if paths else "the beginning"


def _repeated(values: dict[str, Any]) -> list[str]:
    """The options that --resume needs again."""
    options = [("--load", path) for path in values["load"]]
    if ":" in (values["model"] or ""):
        options.append(("--model", values["model"]))
    options += [("--rank-timeout", values["time_limit"]), ("--target-acc", values["target_acc"])]
    words = [str(word) for name, value in options if value is not None for word in (name, value)]
    flags = (
        ("--json", values["as_json"]),
        ("--no-pictures", not values["pictures"]),
        ("--tensorboard", values["tensorboard"]),
    )
    return [*words, *(flag for flag, given in flags if given)]
