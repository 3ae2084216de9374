"""Whether a recipe reaches less here than elsewhere: the same recipe in PyTorch.

    python bench/recipes_vs_torch.py torres --seeds 5

Model, initial weights (Keras' initialisers), optimizer, rate, batch size and epochs are those of the
recipe and seed; only the library and the order of the images differ. Recipes without dropout and
validation images, whose optimizer is SGD or Adam, can be compared.
"""

from __future__ import annotations

import statistics

import click
import numpy as np
import torch
from rich.progress import track

import gpucnn
from gpucnn import datasets
from gpucnn.devices import threads
from gpucnn.runs import recipes, zoo
from gpucnn.runs.rivals import has_dropout
from gpucnn.runs.translations import as_torch


def accuracy(recipe: recipes.Recipe, data: datasets.Dataset, seed: int) -> float:
    """The test accuracy in percent after training in PyTorch."""
    gpucnn.utils.set_random_seed(seed)
    torch.manual_seed(seed)
    net = as_torch(zoo.find(recipe.model).build()).to(memory_format=torch.channels_last)
    rate = recipe.training.make_optimizer().learning_rate
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[recipe.training.optimizer]
    optimizer = kind(net.parameters(), lr=rate, **({"eps": 1e-7} if recipe.training.optimizer == "adam" else {}))
    (x, y), (x_test, y_test) = (
        (torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255)), torch.from_numpy(labels))
        for images, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test))
    )
    for _ in range(recipe.training.epochs):
        for batch in torch.randperm(len(x)).split(recipe.training.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return 100 * (net(x_test).argmax(1) == y_test).double().mean().item()


@click.command()
@click.argument("name")
@click.option("--seeds", default=5, show_default=True, help="Seeds 0, 1, 2, …")
def main(name: str, seeds: int) -> None:
    """Print the test accuracy of a recipe in PyTorch: mean, lowest and highest."""
    recipe = recipes.find(name)
    if recipe.validation_split or has_dropout(recipe.model) or recipe.training.optimizer not in ("sgd", "adam"):
        raise click.ClickException(f"{recipe.name} has dropout, validation images or {recipe.training.optimizer}")
    torch.set_num_threads(threads.in_use())
    data = datasets.load(recipe.dataset)
    values = [accuracy(recipe, data, seed) for seed in track(range(seeds), f"{recipe.name} in PyTorch")]
    mean, low, high = statistics.mean(values), min(values), max(values)
    click.echo(f"{recipe.name} in PyTorch {torch.__version__}: {mean:.2f} % ({low:.2f} … {high:.2f}, {seeds} seeds)")


if __name__ == "__main__":
    main()
