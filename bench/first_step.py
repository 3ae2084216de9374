"""How long `gpucnn train` takes from its start to the end of its first step.

    python bench/first_step.py
    python bench/first_step.py --runs 5 --out bench/results/cpu-amd-epyc/first_step.json

Cold: with an empty cache of compiled kernels, as on a machine that has just installed gpucnn. Warm: the same
command again. Each run is a new process on random images in an .npz file, with the model's batch size; Python's
own cache of compiled modules is filled before.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.progress import track
from train_step_vs_torch import machine

from gpucnn.files import write_atomically
from gpucnn.runs import zoo
from gpucnn.runs.step import OPTIMIZERS

_PROGRAM = """
import os, sys, time
from gpucnn.models.training_step import TrainingStep

train = TrainingStep.train

def first(*args, **options):
    train(*args, **options)
    print(time.time(), flush=True)
    os._exit(0)

TrainingStep.train = first
from gpucnn.cli import main
main()
"""
"""The command, which ends behind its first step."""


def seconds(model: str, folder: Path, data: Path) -> float:
    """From the start of the command to the end of its first step, with its cache in the folder."""
    command = [sys.executable, "-c", _PROGRAM, "train", "--data", str(data), "--model", model]
    out = ["--out", str(folder / f"run{len(list(folder.iterdir()))}")]
    environment = {**os.environ, "GPUCNN_CACHE": str(folder / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.time()
    done = subprocess.run([*command, *out], env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise click.ClickException(f"gpucnn train --model {model} failed: {done.stderr.strip()}")
    return float(done.stdout.split()[-1]) - start


def _write_images(path: Path, model: str) -> None:
    entry, random = zoo.find(model), np.random.default_rng(0)
    images = random.integers(0, 256, (2 * entry.training.batch_size, *entry.input_shape), np.uint8)
    labels = np.arange(len(images)) % entry.classes
    np.savez(path, x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])


def measure(model: str) -> dict[str, float]:
    """Seconds of a cold and of a warm start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_images(folder / "images.npz", model)
        return {kind: seconds(model, folder, folder / "images.npz") for kind in ("cold", "warm")}


@click.command()
@click.option("--models", default=",".join((zoo.DEFAULT, *OPTIMIZERS)), show_default=True, help="Names, with commas.")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Write a record.")
def main(models: str, runs: int, out: str | None) -> None:
    """Print the seconds to the first step: the median, the least and the most."""
    names = [zoo.find(name).name for name in models.split(",")]
    measure(names[0])  # which fills Python's cache
    turns = [(name, measure(name)) for _ in track(range(runs), "first steps") for name in names]
    rows: list[dict[str, Any]] = []
    click.echo("| model | cold | warm |\n|---|---|---|")
    for name in names:
        row = {kind: sorted(times[kind] for one, times in turns if one == name) for kind in ("cold", "warm")}
        rows.append({"model": name, **row})
        cells = (f"{statistics.median(row[kind]):.2f} s ({row[kind][0]:.2f} … {row[kind][-1]:.2f})" for kind in row)
        click.echo(f"| {name} | {' | '.join(cells)} |")
    if out:
        record = {"machine": machine(), "runs": runs, "models": rows}
        write_atomically(Path(out), json.dumps(record, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
