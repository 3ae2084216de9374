"""The commands that show what there is: summary, models, data, doctor, version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ..version import __version__
from .group import AS_JSON, AT_LEAST_ONE, DATA_DIR, main, options
from .screen import Screen, print_json, print_table


@main.command()
@options(
    click.argument("model"),
    click.option("--input-shape", metavar="HxWxC", help="The size of the images, such as 32x32x3."),
    click.option("--classes", metavar="N", type=AT_LEAST_ONE, help="The number of classes."),
    AS_JSON,
)
def summary(model: str, input_shape: str | None, classes: int | None, as_json: bool) -> None:
    """The layers of MODEL: a name of `gpucnn models`, a run folder or a .safetensors file.

    Keys of --json: model, input_shape, parameters, trainable_parameters, flops_per_image, layers; of each layer: name,
    type, output_shape, parameters, flops_per_image.
    """
    from ..runs import experiment

    found = experiment.find_model(model, input_shape, classes)
    if as_json:
        return print_json(experiment.describe(found))
    return found.summary(show_flops=True, print_fn=lambda text: click.echo(text, nl=False))


@main.command()
@AS_JSON
def models(as_json: bool) -> None:
    """The models that can be trained by name, and how.

    Keys of --json: models; of each model: name, source, input_shape, classes, parameters, flops_per_image, recipe; of
    the recipe: optimizer, batch_size, epochs, learning_rate, decay, options, loss.
    """
    from ..runs import zoo

    entries = [zoo.find(name).describe() for name in zoo.names()]
    if as_json:
        return print_json({"models": entries})
    rows = [
        (
            entry["name"],
            "×".join(map(str, entry["input_shape"])),
            f"{entry['parameters']:,}",
            f"{entry['flops_per_image']:,}",
            str(zoo.find(entry["name"]).recipe),
            entry["source"],
        )
        for entry in entries
    ]
    return print_table(("model", "input", "parameters", "FLOPs/image", "recipe", "source"), rows, wrapped=2)


@main.group()
def data() -> None:
    """Data sets: which there are, where they lie, how to get them."""


@data.command("list")
@options(DATA_DIR, AS_JSON)
def data_list(data_dir: str | None, as_json: bool) -> None:
    """The data sets, and where they were found.

    Keys of --json: datasets; of each data set: name, about, path (null where it is not here), form, published (whether
    the files are the published ones).
    """
    from .. import datasets

    entries: list[dict[str, Any]] = []
    for name in datasets.names():
        found = datasets.locate(name, data_dir)
        entries.append(
            {
                "name": name,
                "about": datasets.about(name),
                "path": None if found is None else str(found.path),
                "form": None if found is None else found.form,
                "published": None if found is None else found.published,
            }
        )
    if as_json:
        return print_json({"datasets": entries})
    rows = [(e["name"], e["about"], e["form"] or "", e["path"] or f"gpucnn data fetch {e['name']}") for e in entries]
    return print_table(("data set", "what", "as", "where"), rows, wrapped=3)


@data.command("path")
@options(click.argument("name", required=False), DATA_DIR)
def data_path(name: str | None, data_dir: str | None) -> None:
    """The folder where NAME lies; without NAME, the folder that downloads go to."""
    from .. import datasets

    if name is None:
        return click.echo(datasets.user_cache())
    found = datasets.locate(name, data_dir)
    if found is None:
        raise click.ClickException(f"{name} is not on this machine: get it by gpucnn data fetch {name}")
    return click.echo(found.path)


@data.command("fetch")
@options(click.argument("names", metavar="NAME...", nargs=-1, required=True), DATA_DIR)
def data_fetch(names: Sequence[str], data_dir: str | None) -> None:
    """Download data sets (to --data-dir, else to your cache) and check their hashes; prints where they are."""
    from .. import datasets

    with Screen() as screen:
        for name in names:
            click.echo(datasets.fetch(name, data_dir, screen.progress).path)


@data.command("verify")
@options(click.argument("name"), DATA_DIR)
def data_verify(name: str, data_dir: str | None) -> int:
    """Compare the files of NAME with the published hashes; exit with 1 unless all are equal."""
    from .. import datasets

    checks = datasets.verify(name, data_dir)
    rows = [(c.file, "ok" if c.ok else "DIFFERS" if c.path else "MISSING", c.actual or "", c.note) for c in checks]
    print_table(("file", "", "sha256", ""), rows, wrapped=2)
    return 0 if all(check.ok for check in checks) else 1


@main.command()
@AS_JSON
def doctor(as_json: bool) -> int:
    """What this machine offers, what is broken, and the one command that mends it; exit with 1 if something is.

    Keys of --json: verdict, ok, machine, packages, environment, caches (name, path, writable), checks (name, ok,
    seconds, detail), problems (severity, what, command), command.
    """
    from .doctor import examine

    report = examine()
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(str(report))
    return 0 if report.ok else 1


@main.command()
def version() -> None:
    """The version of gpucnn."""
    click.echo(f"gpucnn {__version__}")
