"""What data augmentation adds to a training step on the CPU: light and strong in turns with none.

    python bench/augmentation_cost.py mnist_convnet slides vgg-small

Images are random; ratios are the median over the turns of whole epochs by `fit`, in one process.
"""

from __future__ import annotations

import statistics
import time
from itertools import cycle

import click
import numpy as np

from gpucnn.models.sequential import Sequential
from gpucnn.runs import augmentation, zoo

LEVELS = (None, *augmentation.LEVELS)


def made(entry: zoo.Entry, level: str | None) -> Sequential:
    """A model of the zoo with a level of augmentation in front, compiled."""
    model = augmentation.in_front(entry.build(), augmentation.layers(level, False, 1.0))
    model.compile(entry.training.make_optimizer(100), entry.training.loss, metrics=["accuracy"])
    return model


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--seconds", default=30.0, show_default=True, help="Seconds to measure a model.")
@click.option("--steps", default=20, show_default=True, help="Steps of an epoch.")
def main(names: tuple[str, ...], seconds: float, steps: int) -> None:
    """Print a row of a table in Markdown for each model of the zoo."""
    click.echo("| model | batch | step without | light | strong | turns |\n|---|---|---|---|---|---|")
    for name in names:
        entry = zoo.find(name)
        size, generator = entry.training.batch_size, np.random.default_rng(0)
        models = {level: made(entry, level) for level in LEVELS}
        shape = models[None].input_shape[1:]
        x, y = generator.random((steps * size, *shape), dtype=np.float32), generator.integers(0, 10, steps * size)
        times: dict[str | None, list[float]] = {level: [] for level in LEVELS}
        for level in LEVELS:  # compiles
            models[level].fit(x, y, batch_size=size, verbose=0)
        end = time.perf_counter() + seconds
        for level in cycle(LEVELS):
            if level is None and time.perf_counter() > end:
                break
            start = time.perf_counter()
            models[level].fit(x, y, batch_size=size, verbose=0)
            times[level].append(time.perf_counter() - start)
        ratios = (statistics.median(np.divide(times[level], times[None])) for level in augmentation.LEVELS)
        step = 1e3 * statistics.median(times[None]) / steps
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        click.echo(f"| {name} | {size} | {step:.1f} ms | {cells} | {len(times[None])} |")


if __name__ == "__main__":
    main()
