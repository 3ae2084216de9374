"""The command that hands out the notebooks: notebooks."""

from __future__ import annotations

import click

from ..runs import notebooks as course
from .group import main, options


@main.command()
@options(click.argument("folder", default="notebooks"))
def notebooks(folder: str) -> None:
    """Copy six short notebooks into FOLDER (default: notebooks) and print their paths: a first CNN,
    from a convolution to a kernel in the emulator, a kernel of your own, signals in 1-D, volumes in
    3-D, and regression.

    Files that you have changed are kept. Open them with Jupyter: pip install jupyterlab, then
    jupyter lab FOLDER.
    """
    for path in course.copy(folder):
        click.echo(path)
