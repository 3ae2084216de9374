"""Libraries that only some files need, imported when such a file is read or written."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ArgumentError


def library(module: str, files: str, extra: str) -> Any:
    """A module of an optional library. Raises `ArgumentError` with the command that installs it.

    files  the kind of files that need it, for the message
    extra  the extra of gpucnn that installs it
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArgumentError(f"{files} need the package {package}: pip install 'gpucnn[{extra}]'") from error
