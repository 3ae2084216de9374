"""The peak memory of a training step, measured in a new process: Linux only.

    python bench/step_memory.py                 # a table: all kinds of models, gpucnn and PyTorch
    python bench/step_memory.py slides torch    # bytes

Bytes are how much more memory the process holds at most during three steps than after as many steps on a
batch of two samples, so that libraries and compilers do not count. Neither do images to predict: the
inputs hold one. The table has the least of several runs, since what is compiled meanwhile adds to the others;
for PyTorch it is the least of both memory formats.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import subprocess
import sys
from pathlib import Path

import click
from model_kinds import KINDS
from rival_loops import MAKERS, TORCH, Problem, contestants, prepare
from train_step_vs_torch import machine

from gpucnn.devices import threads
from gpucnn.files import write_atomically
from gpucnn.runs.rivals import Absent


def peak_of_step(model: str, contender: str) -> int:
    """Bytes, measured in a new process."""
    command = [sys.executable, __file__, model, contender]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _status(field: str) -> int:
    """A field of this process' status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def _problem(model: str, batch_size: int) -> Problem:
    return Problem(dataclasses.replace(KINDS[model], batch_size=batch_size), dropout=True, count=1)


def measure(model: str, contender: str) -> int:
    """Bytes, measured in this process."""
    prepare(threads.available(), [contender])
    small = MAKERS[contender](_problem(model, 2)).step
    assert small is not None
    for _ in range(4):  # gpucnn records the third
        small()
    del small
    gc.collect()
    before = _status("VmRSS")
    step = MAKERS[contender](_problem(model, KINDS[model].batch_size)).step
    assert step is not None
    step()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(3):
        step()
    return _status("VmHWM") - before


@click.command(help="The bytes of a step of MODEL in CONTENDER, or a table of all models, compared with PyTorch.")
@click.argument("model", metavar="[MODEL]", required=False, type=click.Choice(list(KINDS)))
@click.argument("contender", metavar="[CONTENDER]", default="gpucnn", type=click.Choice(list(MAKERS)))
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Of each, for the table.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the table to this file, as JSON.")
def main(model: str | None, contender: str, runs: int, out: Path | None) -> None:
    try:
        if model is not None:
            click.echo(measure(model, contender))
            return
        prepare(threads.available(), TORCH)
    except Absent as reason:
        raise click.ClickException(str(reason)) from None
    from rich.console import Console
    from rich.progress import track

    table = {}
    for name in track(KINDS, "models", console=Console(stderr=True), transient=True):
        able = contestants(_problem(name, 2), ("gpucnn", *TORCH))
        table[name] = least = {who: min(peak_of_step(name, who) for _ in range(runs)) for who in able}
        others = min(least[rival] for rival in TORCH if rival in able)
        click.echo(f"{name:16} {least['gpucnn'] / 1e6:7.2f} MB, PyTorch {others / 1e6:7.2f} MB")
    if out is not None:
        record = {"machine": machine(), "runs": runs, "bytes": table}
        write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
