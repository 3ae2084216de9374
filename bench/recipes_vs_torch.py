"""Whether a recipe reaches less here than elsewhere: the same recipe in PyTorch.

    python bench/recipes_vs_torch.py torres --seeds 5
    python bench/recipes_vs_torch.py torres-fashion-5 --device cuda
    python bench/recipes_vs_torch.py torres --save bench/results/cpu-amd-epyc/recipes_vs_torch.json

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
@click.option("--seeds", default=5, show_default=True, help="Seeds 0, 1, 2, …")
@click.option("--device", default="cpu", show_default=True, help="Where PyTorch trains, such as cuda.")
@click.option("--save", metavar="FILE", type=click.Path(dir_okay=False), help="Replace the recipe's entry in FILE.")
def main(name: str, seeds: int, device: str, save: str | None) -> None:
    """Print the test accuracy of a recipe in PyTorch: mean, lowest and highest."""
    recipe = recipes.find(name)
    if not _is_comparable(recipe):
        raise click.ClickException(f"{recipe.name} cannot be compared: {recipe}")
    torch.set_num_threads(threads.in_use())
    data = datasets.load(recipe.dataset)
    values = [accuracy(recipe, data, seed, device) for seed in track(range(seeds), f"{recipe.name} in PyTorch")]
    mean, low, high = (100 * value for value in (statistics.mean(values), min(values), max(values)))
    click.echo(f"{recipe.name} in PyTorch {torch.__version__}: {mean:.2f} % ({low:.2f} … {high:.2f}, {seeds} seeds)")
    if save:
        path = Path(save)
        record = json.loads(path.read_text()) if path.exists() else {}
        record[recipe.name] = {"torch": torch.__version__, "test_accuracies": values}
        write_atomically(path, json.dumps(record, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
