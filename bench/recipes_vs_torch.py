"""Whether a recipe reaches less here than elsewhere: the same recipe in PyTorch.

    python bench/recipes_vs_torch.py torres --seeds 5
    python bench/recipes_vs_torch.py torres-fashion-5 --device cuda
    python bench/recipes_vs_torch.py torres --save bench/results/cpu-amd-epyc/recipes_vs_torch.json
    python bench/recipes_vs_torch.py torres-fashion-5 --first 2 --seeds 1 --save FILE     # one more seed

Model, initial weights (Keras' initialisers), images held out, order of the images, batches, optimizer,
rates and epochs are those of the recipe and seed; only the library differs, and what dropout drops. Recipes
without early stopping, augmentation and options of the optimizer, which is SGD, Adam or RMSprop, can be
compared. The table in the README is made from the record (`bench/recipes.py`).
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import click
import numpy as np
import torch
from rich.progress import track

import gpucnn
from gpucnn import datasets, random
from gpucnn.devices import threads
from gpucnn.files import write_atomically
from gpucnn.runs import division, recipes, zoo
from gpucnn.runs.translations import as_torch


class RMSprop(torch.optim.Optimizer):
    """Keras' RMSprop: that of PyTorch has its epsilon outside of the root, which is not the same."""

    def __init__(self, weights, lr):
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                squares = self.state[weight].setdefault("squares", torch.zeros_like(weight))
                squares.mul_(0.9).addcmul_(weight.grad, weight.grad, value=0.1)
                weight.addcdiv_(weight.grad, (squares + 1e-7).sqrt_(), value=-group["lr"])


OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": lambda weights, lr: torch.optim.Adam(weights, lr=lr, eps=1e-7),
    "rmsprop": RMSprop,
}


def accuracy(recipe: recipes.Recipe, data: datasets.Dataset, seed: int, device: str = "cpu") -> float:
    """The test accuracy, 0 … 1, after training in PyTorch."""
    gpucnn.utils.set_random_seed(seed)
    torch.manual_seed(seed)
    net = as_torch(zoo.find(recipe.model).build()).to(device, memory_format=torch.channels_last)
    data = division.with_validation(data, int(len(data.x_train) * (1 - recipe.validation_split)), seed)
    (x, y), (x_test, y_test) = (
        (
            torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255)).to(device),
            torch.from_numpy(labels).to(device),
        )
        for images, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test))
    )
    training = recipe.training
    rates = training.make_optimizer(training.epochs * -(-len(x) // training.batch_size)).learning_rate
    optimizer = OPTIMIZERS[training.optimizer](net.parameters(), lr=0.0)
    net.train()
    step = 0
    for epoch in range(training.epochs):
        order = torch.from_numpy(random.permutation(len(x), seed=seed, epoch=epoch)).to(device)
        for batch in order.split(training.batch_size):
            optimizer.param_groups[0]["lr"] = float(rates(step) if callable(rates) else rates)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
            step += 1
    net.eval()
    with torch.no_grad():
        right = [(net(part).argmax(1) == labels).sum() for part, labels in zip(x_test.split(500), y_test.split(500))]
    return sum(right).item() / len(x_test)


def _is_comparable(recipe: recipes.Recipe) -> bool:
    own = recipe.early_stopping or recipe.best or recipe.augment or recipe.training.options
    return not own and recipe.training.optimizer in OPTIMIZERS


@click.command()
@click.argument("name")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many seeds.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed; others follow it.")
@click.option("--device", default="cpu", show_default=True, help="Where PyTorch trains, such as cuda.")
@click.option("--save", metavar="FILE", type=click.Path(dir_okay=False), help="Take them into the record FILE.")
def main(name: str, seeds: int, first: int, device: str, save: str | None) -> None:
    """Print the test accuracy of a recipe in PyTorch: mean, lowest and highest."""
    recipe = recipes.find(name)
    if not _is_comparable(recipe):
        raise click.ClickException(f"{recipe.name} cannot be compared: {recipe}")
    path = Path(save) if save else None
    record = json.loads(path.read_text()) if path and path.exists() else {}
    known = record.get(recipe.name, {}).get("test_accuracies", [])
    if path and first > len(known):
        raise click.ClickException(f"--first {first}: {path} has the seeds below {len(known)}: go on with that one")
    torch.set_num_threads(threads.in_use())
    data = datasets.load(recipe.dataset)
    values = []
    for seed in track(range(first, first + seeds), f"{recipe.name} in PyTorch"):
        values.append(accuracy(recipe, data, seed, device))
        if path:  # each seed by itself: some recipes take an hour for one
            accuracies = [*known[:first], *values, *known[first + len(values) :]]
            record[recipe.name] = {"torch": torch.__version__, "test_accuracies": accuracies}
            write_atomically(path, json.dumps(record, indent=1).encode() + b"\n")
    mean, low, high = (100 * value for value in (statistics.mean(values), min(values), max(values)))
    click.echo(f"{recipe.name} in PyTorch {torch.__version__}: {mean:.2f} % ({low:.2f} … {high:.2f}, {seeds} seeds)")


if __name__ == "__main__":
    main()
