"""`python -m gpucnn` is the command `gpucnn`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="gpucnn")
