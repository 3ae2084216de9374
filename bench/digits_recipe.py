"""How the recipe of `gpucnn train` for the embedded digits was chosen: by cross-validation.

    python bench/digits_recipe.py

trains the default model with each candidate on four fifths of the 1,437 training images and
measures it on the last fifth, for each of the five folds and two seeds. It prints the mean
accuracy, its standard error over the ten runs, and the time of one run. The 360 test images are not
used. The table on which the choice was based is in bench/results/cpu-amd-epyc/digits_recipe.md.
"""

from __future__ import annotations

import statistics
import time
from itertools import product

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import gpucnn
from gpucnn.datasets import digits
from gpucnn.runs import zoo
from gpucnn.runs.training import Training

FOLDS = 5
AVERAGED = {"use_ema": True, "ema_momentum": 0.99}
"""The final weights are a moving average over roughly the last hundred updates."""

CANDIDATES = [
    Training("adam", 128, 12),
    Training("adam", 128, 30),
    Training("adam", 128, 30, 0.003),
    Training("adam", 128, 45, 0.003, decay=0.003),
    Training("adam", 64, 45, 0.001),
    Training("adam", 64, 30, 0.002, decay=0.003),
    Training("adam", 64, 45, 0.002, decay=0.003),
    Training("adam", 32, 30, 0.001, decay=0.001),
    Training("adam", 32, 30, 0.002, decay=0.003),
    Training("adam", 64, 30, 0.002, options=AVERAGED),
    Training("adam", 64, 30, 0.003, options=AVERAGED),
    Training("adam", 32, 30, 0.002, options=AVERAGED),
    Training("adam", 128, 45, 0.003, options=AVERAGED),
    Training("adamw", 64, 45, 0.002, options={**AVERAGED, "weight_decay": 0.05}),
    Training("adam", 64, 60, 0.002, options=AVERAGED),
]


def fold_of_each(y: np.ndarray) -> np.ndarray:
    """The fold of each image; every fold gets an equal share of each class."""
    folds = np.empty(len(y), int)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        folds[members] = np.arange(len(members)) % FOLDS
    return folds


def accuracy(training: Training, x: np.ndarray, y: np.ndarray, held_out: np.ndarray, seed: int) -> float:
    """Accuracy on the held-out images after training on the others."""
    gpucnn.utils.set_random_seed(seed)
    model = zoo.find(zoo.DEFAULT).build()
    model.compile(training.make_optimizer(), training.loss, metrics=["accuracy"])
    model.fit(x[~held_out], y[~held_out], batch_size=training.batch_size, epochs=training.epochs, verbose=0)
    return model.evaluate(x[held_out], y[held_out], verbose=0)[1]


@click.command()
@click.option("--seeds", default=2, show_default=True, help="Seeds per fold.")
@click.option("--only", type=int, multiple=True, help="Numbers of the candidates to try.  [default: all]")
def main(seeds: int, only: tuple[int, ...]) -> None:
    """Print the table of candidates."""
    (x, y), _ = digits.load_data()
    x = x[..., None].astype(np.float32) / 255
    folds = fold_of_each(y)
    table = Table("recipe", "accuracy %", "standard error", "worst", "seconds a run", title="digits, cross-validation")
    for number in only or range(len(CANDIDATES)):
        training, accuracies, begin = CANDIDATES[number], [], time.perf_counter()
        runs = list(product(range(FOLDS), range(seeds)))
        for fold, seed in track(runs, f"{training}", console=Console(stderr=True)):
            accuracies.append(100 * accuracy(training, x, y, folds == fold, seed))
        seconds = (time.perf_counter() - begin) / len(runs)
        error = statistics.stdev(accuracies) / len(accuracies) ** 0.5
        mean, worst = statistics.mean(accuracies), min(accuracies)
        table.add_row(str(training), f"{mean:.2f}", f"{error:.2f}", f"{worst:.2f}", f"{seconds:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
