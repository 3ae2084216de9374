"""Whether a recipe reaches less here than elsewhere: the same recipe in PyTorch.

    python bench/recipes_vs_torch.py torres --seeds 5
    python bench/recipes_vs_torch.py torres --save bench/results/cpu-amd-epyc/recipes_vs_torch.json

Model, initial weights (Keras' initialisers), images held out, order of the images, batches, optimizer,
rate and epochs are those of the recipe and seed; only the library differs. Recipes without dropout and
early stopping, whose optimizer is SGD, Adam or RMSprop, can be compared. The table in the README is
made from the record (`bench/recipes.py`).
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
from gpucnn.runs.rivals import has_dropout
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


def accuracy(recipe: recipes.Recipe, data: datasets.Dataset, seed: int) -> float:
    """The test accuracy, 0 … 1, after training in PyTorch."""
    gpucnn.utils.set_random_seed(seed)
    net = as_torch(zoo.find(recipe.model).build()).to(memory_format=torch.channels_last)
    rate = recipe.training.make_optimizer().learning_rate
    optimizer = OPTIMIZERS[recipe.training.optimizer](net.parameters(), lr=rate)
    data = division.with_validation(data, int(len(data.x_train) * (1 - recipe.validation_split)), seed)
    (x, y), (x_test, y_test) = (
        (torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255)), torch.from_numpy(labels))
        for images, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test))
    )
    for epoch in range(recipe.training.epochs):
        order = torch.from_numpy(random.permutation(len(x), seed=seed, epoch=epoch))
        for batch in order.split(recipe.training.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return (net(x_test).argmax(1) == y_test).double().mean().item()


@click.command()
@click.argument("name")
@click.option("--seeds", default=5, show_default=True, help="Seeds 0, 1, 2, …")
@click.option("--save", metavar="FILE", type=click.Path(dir_okay=False), help="Replace the recipe's entry in FILE.")
def main(name: str, seeds: int, save: str | None) -> None:
    """Print the test accuracy of a recipe in PyTorch: mean, lowest and highest."""
    recipe = recipes.find(name)
    if recipe.early_stopping or recipe.best or has_dropout(recipe.model) or recipe.training.optimizer not in OPTIMIZERS:
        raise click.ClickException(f"{recipe.name} has dropout, early stopping or {recipe.training.optimizer}")
    torch.set_num_threads(threads.in_use())
    data = datasets.load(recipe.dataset)
    values = [accuracy(recipe, data, seed) for seed in track(range(seeds), f"{recipe.name} in PyTorch")]
    mean, low, high = (100 * value for value in (statistics.mean(values), min(values), max(values)))
    click.echo(f"{recipe.name} in PyTorch {torch.__version__}: {mean:.2f} % ({low:.2f} … {high:.2f}, {seeds} seeds)")
    if save:
        path = Path(save)
        record = json.loads(path.read_text()) if path.exists() else {}
        record[recipe.name] = {"torch": torch.__version__, "test_accuracies": values}
        write_atomically(path, json.dumps(record, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
