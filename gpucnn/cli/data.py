"""The command data: which data sets there are, where they are, how to get and to verify them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from .. import datasets
from .group import AS_JSON, DATA_DIR, main, options
from .screen import Screen, print_json, print_table


@main.group()
def data() -> None:
    """List, locate, download and verify data sets.

    They are looked for in the folder named by --data-dir or GPUCNN_DATA, then in the cache of gpucnn
    and where Keras and torchvision keep them. What is not there is downloaded when it is needed, and
    nothing at all if GPUCNN_OFFLINE=1 is set.
    """


@data.command("list")
@options(DATA_DIR, AS_JSON)
def data_list(data_dir: str | None, as_json: bool) -> None:
    """List the data sets, and where each was found.

    Keys of --json: datasets; of each data set: name, about, path (null if it was not found), form,
    published (whether the files are the published ones).
    """
    entries: list[dict[str, Any]] = []
    for name in datasets.names():
        location = datasets.locate(name, data_dir)
        entries.append(
            {
                "name": name,
                "about": datasets.about(name),
                "path": None if location is None else str(location.path),
                "form": None if location is None else location.form,
                "published": None if location is None else location.published,
            }
        )
    if as_json:
        return print_json({"datasets": entries})
    rows = [(e["name"], e["about"], e["form"] or "", e["path"] or f"gpucnn data fetch {e['name']}") for e in entries]
    return print_table(("data set", "what", "as", "where"), rows)


@data.command("path")
@options(click.argument("name", required=False), DATA_DIR)
def data_path(name: str | None, data_dir: str | None) -> None:
    """Print the folder that holds NAME; without NAME, the folder for downloads."""
    if name is None:
        return click.echo(datasets.user_cache())
    location = datasets.locate(name, data_dir)
    if location is None:
        raise click.ClickException(f"{name} is not on this machine: get it with gpucnn data fetch {name}")
    return click.echo(location.path)


@data.command("fetch")
@options(click.argument("names", metavar="NAME...", nargs=-1, required=True), DATA_DIR)
def data_fetch(names: Sequence[str], data_dir: str | None) -> None:
    """Download data sets into --data-dir or your cache, verify them, and print where they are."""
    with Screen() as screen:
        for name in names:
            click.echo(datasets.fetch(name, data_dir, screen.progress).path)


@data.command("verify")
@options(click.argument("name"), DATA_DIR)
def data_verify(name: str, data_dir: str | None) -> int:
    """Compare the files of NAME with the published hashes; exit with status 1 if any differs."""
    checks = datasets.verify(name, data_dir)
    rows = [(c.file, "ok" if c.ok else "DIFFERS" if c.path else "MISSING", c.actual or "", c.note) for c in checks]
    print_table(("file", "", "sha256", ""), rows)
    return 0 if all(check.ok for check in checks) else 1
