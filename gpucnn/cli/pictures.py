"""The commands that draw: filters."""

from __future__ import annotations

import click

from ..runs import image_filters
from .group import main, options


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
