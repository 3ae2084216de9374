"""The commands summary, shapes and models: the layers of a model, and the models that have names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict

import click

from ..devices.free_memory import readable
from ..models.shapes import ladder
from ..runs import commands, recipes, zoo
from .group import AS_JSON, AT_LEAST_ONE, main, options
from .screen import percent, print_json, print_table

_MODEL = options(
    click.argument("model"),
    click.option("--input-shape", metavar="HxWxC", help="Size of the images, such as 32x32x3."),
    click.option("--classes", metavar="N", type=AT_LEAST_ONE, help="Number of classes."),
    AS_JSON,
)


@main.command()
@_MODEL
def summary(model: str, input_shape: str | None, classes: int | None, as_json: bool) -> None:
    """Show the layers of MODEL: a name from `gpucnn models`, a run folder, or a
    .safetensors, .onnx or .keras file.

    Keys of --json: model, input_shape, parameters, trainable_parameters, flops_per_image, layers;
    of each layer: name, type, output_shape, parameters, flops_per_image.
    """
    built = commands.find_model(model, input_shape, classes)
    if as_json:
        return print_json(commands.describe(built))
    return built.summary(show_flops=True, print_fn=lambda text: click.echo(text, nl=False))


@main.command()
@_MODEL
def shapes(model: str, input_shape: str | None, classes: int | None, as_json: bool) -> None:
    """Show how each layer of MODEL comes to its size and its number of parameters.

    A window of k cells that moves in steps of s over d cells, with p zeros on each side, has
    floor((d - k + 2p) / s) + 1 positions. Columns: sees, the part of the image that one output
    depends on (its receptive field); memory, of the output of one image in float32.

    Keys of --json: model, input_shape, parameters, flops_per_image, activation_bytes_per_image,
    layers; of each layer: name, type, input_shape, output_shape, size (formulas, one for each axis
    if they differ), parameters, parameters_formula, flops, activation_bytes, receptive_field.
    """
    built = commands.find_model(model, input_shape, classes)
    rungs, image = ladder(built), built.input_shape[1:]
    memory, flops = sum(rung.activation_bytes for rung in rungs), sum(rung.flops for rung in rungs)
    if as_json:
        return print_json(
            {
                "model": built.name,
                "input_shape": list(image),
                "parameters": built.count_params(),
                "flops_per_image": flops,
                "activation_bytes_per_image": memory,
                "layers": [asdict(rung) for rung in rungs],
            }
        )
    rows = [
        (
            rung.name,
            _extents(rung.output_shape),
            "–" if rung.receptive_field is None else _extents(rung.receptive_field),
            f"{rung.parameters:,}",
            f"{rung.flops:,}",
            readable(rung.activation_bytes),
        )
        for rung in rungs
    ]
    print_table(
        ("layer", "output", "sees", "parameters", "FLOPs", "memory"),
        [("input", _extents(image), "", "", "", readable(4 * math.prod(image))), *rows],
    )
    click.echo()
    formulas = [(rung.name, "; ".join(rung.size), rung.parameters_formula) for rung in rungs]
    print_table(("layer", "size", "parameters"), [row for row in formulas if any(row[1:])])
    click.echo()
    parameters = f"{built.count_params():,} parameters"
    return click.echo(f"{parameters}; for each image {flops:,} FLOPs, {readable(memory)} of activations")


def _extents(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))


@main.command()
@AS_JSON
def models(as_json: bool) -> None:
    """List the models that can be trained by name, and the recipes: whole training runs by name.

    accuracy: the test accuracy that a recipe should reach; that of one run where a text states it.

    Keys of --json: models, recipes; of each model: name, source, input_shape, classes, parameters,
    flops_per_image, training; of the training: optimizer, batch_size, epochs, learning_rate, decay,
    options, loss, schedule, epoch_decay; of each recipe: name, dataset, model, parameters,
    flops_per_image, accuracy, source, training, validation_split, early_stopping, best, augment, flip.
    """
    entries = [zoo.find(name).describe() for name in zoo.names()]
    if as_json:
        return print_json({"models": entries, "recipes": [recipe.describe() for recipe in recipes.RECIPES]})
    rows = [
        (
            entry["name"],
            "×".join(map(str, entry["input_shape"])),
            f"{entry['parameters']:,}",
            f"{entry['flops_per_image']:,}",
            str(zoo.find(entry["name"]).training),
            entry["source"],
        )
        for entry in entries
    ]
    print_table(("model", "input", "parameters", "FLOPs/image", "training", "source"), rows)
    click.echo()
    return print_table(
        ("recipe", "data set", "model", "accuracy", "training"),
        [
            (
                recipe.name,
                recipe.dataset,
                recipe.model,
                "–" if recipe.accuracy is None else percent(recipe.accuracy),
                str(recipe),
            )
            for recipe in recipes.RECIPES
        ],
    )
