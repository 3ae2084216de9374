"""Training over several processes on this machine compared with one, measured in turns.

    python bench/scaling.py                    # 2 processes, one thread each: mlearning and cifar
    python bench/scaling.py --ranks 2 --ranks 4 --model slides --pairs 9

In each pair, every number of processes has three turns, all in the same processes: one process alone
with the batch of the training while the others sleep (a), all with that batch each (weak scaling), and
all sharing that batch (strong scaling). Weak scaling is N · a / time, strong scaling a / time: the
median over the pairs, with the lowest and the highest. `apart` is N · a / time where all compute at once
and exchange nothing: what the machine's cores, caches and memory allow. Each process is bound to a core, as
`mpiexec --bind-to core` does. Nothing else may run meanwhile.

Writes results/cpu-<name>/scaling.json; bench/scaling_plan.py makes scaling.md of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from train_step_vs_torch import processor

from gpucnn import distributed
from gpucnn.cli.ranks import mpiexec
from gpucnn.devices import threads
from gpucnn.distributed import Group
from gpucnn.files import make_folder, write_atomically
from gpucnn.runs import step as steps
from gpucnn.runs import zoo
from gpucnn.runs.run import versions

MODELS = ("mlearning", "cifar")
RECORD = Path(__file__).parent / "results" / "cpu-amd-epyc" / "scaling.json"


class Turns:
    """One model in this process, alone and as one of a group."""

    def __init__(self, name: str, group: Group) -> None:
        entry, rng = zoo.find(name), np.random.default_rng(0)
        self.group, self.size = group, entry.training.batch_size
        self.x = rng.random((self.size * group.size, *entry.input_shape), np.float32)
        self.y = rng.integers(0, 10, len(self.x))
        self.model = steps.compiled(name)

    def alone(self) -> float:
        """Seconds of a step with the batch of the training, of this process alone."""
        with distributed.alone():
            return self._step(self.size)

    def together(self, images: int) -> float:
        """Seconds of a step of all processes on so many images."""
        return self._step(images)

    def _step(self, images: int) -> float:
        self.model.reset_metrics()
        began = time.perf_counter()
        self.model.train_on_batch(self.x[:images], self.y[:images])
        return time.perf_counter() - began


def measure(name: str, group: Group, pairs: int) -> dict[str, Any]:
    """The row of a model; the same on all ranks but for the times, which are those of rank 0."""
    turns = Turns(name, group)
    kinds: dict[str, Callable[[], float]] = {
        "alone": lambda: turns.alone() if group.rank == 0 else 0.0,
        "apart": turns.alone,
        "weak": lambda: turns.together(turns.size * group.size),
        "strong": lambda: turns.together(turns.size),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(pairs + 2):
        for kind, turn in kinds.items():
            group.barrier()
            times[kind].append(turn())
    times = {kind: values[2:] for kind, values in times.items()}
    row: dict[str, Any] = {"model": name, "ranks": group.size, "batch_size": turns.size, "pairs": pairs}
    row["parameters"] = turns.model.count_params()
    row["milliseconds"] = {kind: round(1e3 * statistics.median(values), 2) for kind, values in times.items()}
    for kind, factor in (("apart", group.size), ("weak", group.size), ("strong", 1)):
        ratios = [factor * one / other for one, other in zip(times["alone"], times[kind], strict=True)]
        row[kind] = [round(value, 3) for value in (statistics.median(ratios), min(ratios), max(ratios))]
    return row


def of_ranks(ranks: int, names: Sequence[str], pairs: int) -> list[dict[str, Any]]:
    """The rows of so many processes, which this starts."""
    options = [word for name in names for word in ("--model", name)]
    command = [*mpiexec(ranks), sys.executable, __file__, "--pairs", str(pairs), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ))
    return json.loads(done.stdout)


@click.command(help=__doc__)
@click.option("--ranks", "counts", type=click.IntRange(2), multiple=True, default=(2,), show_default=True)
@click.option("--model", "names", multiple=True, type=click.Choice(zoo.names()), default=MODELS, show_default=True)
@click.option("--pairs", type=click.IntRange(1), default=7, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RECORD, help="The record.")
def main(counts: Sequence[int], names: Sequence[str], pairs: int, out: Path) -> None:
    if distributed.launched() > 1:
        threads.use(1)
        group = distributed.start(time_limit=60)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[group.rank % len(cores)]})  # two on one core would share it for a while
        rows = [measure(name, group, pairs) for name in names]
        if group.rank == 0:
            print(json.dumps(rows))
        return
    load = round(os.getloadavg()[0], 2)
    rows = [row for ranks in counts for row in of_ranks(ranks, names, pairs)]
    date = datetime.now(UTC).date().isoformat()
    where = {"processor": processor(), "cores": threads.available(), "threads_each": 1, "load_before": load}
    record = {**where, "date": date, "versions": versions(), "rows": rows}
    make_folder(out.parent)
    write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())
    for row in rows:
        low, high = row["weak"][1:]
        click.echo(f"{row['model']}, {row['ranks']} ranks: weak {row['weak'][0]:.2f} ({low:.2f} … {high:.2f})")


if __name__ == "__main__":
    main()
