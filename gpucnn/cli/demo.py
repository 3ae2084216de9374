"""The command that shows a run in a browser: demo."""

from __future__ import annotations

import webbrowser
from contextlib import suppress

import click

from ..runs import commands
from .group import RUN, main, options


@main.command()
@options(
    RUN,
    click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="Port.  [default: a free one]"),
    click.option("--open/--no-open", "opens", default=False, help="Open the page in your browser.  [default: no-open]"),
)
def demo(run: str, port: int, opens: bool) -> None:
    """Serve a page on this machine to draw a digit or drop an image, and see what the model of RUN
    says of it, what it sees, and the feature maps of its convolutions.

    Prints the address, on 127.0.0.1, and answers until Ctrl-C. Nothing leaves this machine.
    """
    from ..runs.demo import Demo

    with Demo(commands.in_use(run), port) as server:
        click.echo(server.address)
        click.echo("Ctrl-C ends it", err=True)
        if opens and not webbrowser.open(server.address):
            click.echo("no browser could be opened: open the address yourself", err=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
