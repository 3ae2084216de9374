"""The commands that draw: filters and report."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ..runs import image_filters
from .group import DATA_DIR, main, options
from .screen import Screen


@main.command()
@options(
    click.argument("image"),
    click.option("--out", metavar="FILE", help="The sheet, a .png file.  [default: NAME-filters.png]"),
)
def filters(image: str, out: str | None) -> None:
    """Draw what the classic filters do to IMAGE: identity, edges, Sobel, sharpen, box and Gaussian
    blur, by cross-correlation, which convolution layers compute, and by true convolution.

    IMAGE is a PNG, JPEG, WebP, BMP, TIFF, GIF or .npy file. One of more than 256 pixels is shrunk
    first. Prints the path of the sheet.
    """
    click.echo(image_filters.draw(image, out))


@main.command()
@options(
    click.argument("runs", metavar="RUN...", nargs=-1, required=True),
    click.option(
        "--out",
        metavar="FILE",
        help="The page, an .html file.  [default: RUN/report.html; of several runs, report.html]",
    ),
    DATA_DIR,
)
def report(runs: Sequence[str], out: str | None, data_dir: str | None) -> None:
    """Write a page on a trained RUN, or on several, which are compared: figures, curves, mistakes,
    scores by class, filters, feature maps, what predictions rest on, layers, settings, and how to
    repeat it.

    The page is one file, which opens without a network. Prints its path.
    """
    from ..runs import report as reports

    with Screen() as screen:
        path = reports.write(runs, out, data_dir, progress=screen.progress)
    click.echo(path)
