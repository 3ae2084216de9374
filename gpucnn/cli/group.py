"""The group of all commands: how a command ends, options that several share, and version.

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 failed,
2 wrong arguments, 3 (of `check`) kernels that cannot be compiled here, 75 too little memory
or a process that does not answer, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from ..dispatch.choice import TUNING
from ..dispatch.precision import FLOAT32, PRECISIONS
from ..distributed import exit_status
from ..errors import GpucnnError, did_you_mean, printable
from ..progress import on_standard_error, say
from ..version import __version__

_INSTEAD = {
    "resume": "gpucnn train --resume RUN",
    "test": "gpucnn evaluate RUN",
    "list": "gpucnn runs",
    "show": "gpucnn kernels show KERNEL",
    "download": "gpucnn data fetch NAME",
}
"""What to write instead of commands that do not exist."""


class Commands(click.Group):
    """A group that reports an error in one line; with GPUCNN_DEBUG=1 by its traceback."""

    group_class = type

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command of this name. A wrong name is answered with what is meant."""
        name = args[0] if args else ""
        if name in self.commands or not name or name.startswith("-"):
            return super().resolve_command(ctx, args)
        hint = (
            f"write {_INSTEAD[name]}" if name in _INSTEAD and ctx.parent is None else did_you_mean(name, self.commands)
        )
        raise click.UsageError(f"No such command {name!r}{hint and f': {hint}'}", ctx)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the command named by the arguments (by default those of the process), and exit."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        with warnings.catch_warnings(), on_standard_error():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            sys.exit(self._run(*args, **{**extra, "standalone_mode": False}))

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; if it is stopped, print how to resume and return that status."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            click.echo(f"gpucnn: {str(error) or 'stopped'}", err=True)
            return getattr(error, "exit_status", 130)

    def _run(self, *args: Any, **extra: Any) -> int:
        try:
            status = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return 0
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f" (see {context.command_path} --help)" if context else ""
            return _fail(error.format_message() + hint, error.exit_code)
        except (GpucnnError, OSError, MemoryError) as error:
            if os.environ.get("GPUCNN_DEBUG", "0") not in ("", "0"):
                raise
            return _fail(str(error) or type(error).__name__, exit_status(error))
        return status if isinstance(status, int) else 0


def _fail(message: str, status: int) -> int:
    click.echo(f"gpucnn: error: {message}", err=True)
    return status


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        say(f"gpucnn: warning: {printable(str(message))}")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gpucnn", message="%(prog)s %(version)s")
def main() -> None:
    """Train, inspect and use convolutional neural networks.

    \b
    gpucnn train                      the embedded digits, within a minute
    gpucnn train mnist --epochs 3     MNIST, downloaded once
    gpucnn predict RUN photo.png --invert --centre
    """


@main.command()
def version() -> None:
    """Print the version of gpucnn."""
    click.echo(f"gpucnn {__version__}")


def options(*decorators: Callable) -> Callable[[Callable], Callable]:
    """Several click options and arguments as one decorator, in the order of the help text."""

    def decorate(command: Callable) -> Callable:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def written(command: click.Command) -> list[str]:
    """The arguments and options with which the user called the command that runs, as a shell takes them: those
    that `command` has as well."""
    context = click.get_current_context()
    words: list[str] = []
    for parameter in command.params:
        name = parameter.name
        if name is None or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words.insert(0, str(value))
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            for each in value if parameter.multiple else (value,):
                words += [max(parameter.opts, key=len), str(each)]
    return [shlex.quote(word) for word in words]


class Number(click.FloatRange):
    """A finite number in a range: click's own range takes NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


AT_LEAST_ONE = click.IntRange(1, 2**31 - 1)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
DATA = click.option("--data", metavar="PATH", help="Your images: .npz, or a folder with a subfolder per class.")
STRICT = click.option("--strict", is_flag=True, help="With --data: stop at a broken image instead of leaving it out.")
DATA_DIR = click.option("--data-dir", metavar="FOLDER", help="Folder of data sets; overrides GPUCNN_DATA.")
LOAD = click.option(
    "--load", metavar="FILE", multiple=True, help="Run this .py file, which has your kernels; repeatable."
)
TUNE = click.option(
    "--tune",
    type=click.Choice(TUNING),
    help="Check and time the kernels that serve a call and take the fastest: fast for those that are chosen by "
    "themselves, full for all. The choices are kept.  [default: off]",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=FLOAT32,
    show_default=True,
    help="Of the factors in products; tf32 and bfloat16 are for tensor cores.",
)
RUN = click.argument("run")
