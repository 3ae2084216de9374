"""`python -m gpucnn` is the command `gpucnn`."""

from .cli import main

main(prog_name="gpucnn")
