"""gpucnn's errors and warnings. Every message names the offending value and what to do about it.

A message may quote a file, so text is cleaned of what controls a terminal.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any

_PACKAGE = os.path.dirname(__file__) + os.sep

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, changes of the direction of writing, and halves of letters."""


def printable(text: str) -> str:
    """Text of unknown origin on one line, with a space for every character that controls a terminal."""
    return _CONTROLS.sub(" ", text)


def one_line(text: Any) -> str:
    """The same of anything, without other characters that cannot be printed, and short."""
    shown = "".join(letter if letter.isprintable() else " " for letter in (str(text) or repr(text))[:1000])
    return shown if len(shown) <= 300 else f"{shown[:300]}…"


class GpucnnError(Exception):
    """Base of all errors that gpucnn raises on purpose; the command prints them on one line."""

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


class ShapeError(GpucnnError, ValueError):
    """The shapes of the arrays do not fit together, or do not fit the layer."""


class ArgumentError(GpucnnError, TypeError, ValueError):
    """An argument is unknown, retired or unsupported, or its value is out of range."""


class KernelError(GpucnnError, RuntimeError):
    """No kernel can serve this call, or a kernel file is invalid."""


class LaunchError(KernelError):
    """A kernel broke a rule or cannot be launched: the message says which or why, and where."""


class CompileError(KernelError):
    """A kernel cannot be compiled on this machine: the message says why."""


class CompilerLog(CompileError):
    """What a compiler says about the errors in a text, in its own words."""


class DataError(GpucnnError, ValueError):
    """A data set, an image or a label is invalid."""


class FileError(GpucnnError, OSError):
    """A file cannot be read or written, or its content is damaged."""


class TrainingError(GpucnnError, FloatingPointError):
    """Training met a loss, a gradient or a weight that is not a finite number."""


class MemoryNeedError(GpucnnError, MemoryError):
    """The work would need more memory than is available."""


class Interrupted(GpucnnError, KeyboardInterrupt):
    """The user stopped the run and its progress is saved; the process exits with `exit_status`."""

    def __init__(self, message: str, exit_status: int = 130) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def warn(message: str) -> None:
    """Warn at the line of the user's that led here, however many calls of gpucnn lie between."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'a'?` with the known name nearest to a wrong one; empty if none is near.

    The nearest has the same letters, or shares the most words, misspelt ones included, and then the most
    letters, in any case. A beginning of three letters or more is near.
    Up to three that are equally near are named.
    """
    words, near = _words(name), []
    joined = "".join(words)
    for other in dict.fromkeys(known):
        parts = _words(other)
        if joined == "".join(parts) != "":
            return f"did you mean {other!r}?"
        shared = sum(bool(difflib.get_close_matches(word, parts, 1, 0.8)) for word in words)
        letters = difflib.SequenceMatcher(None, joined, "".join(parts)).ratio()
        if letters >= 0.6 or (len(joined) > 2 and "".join(parts).startswith(joined)):
            near.append((shared, letters, other))
    if not near:
        return ""
    most, best, _ = max(near, key=lambda one: one[:2])
    equal = sorted((-letters, other) for shared, letters, other in near if shared == most and letters > best - 0.02)
    return f"did you mean {' or '.join(repr(other) for _, other in equal[:3])}?"


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name.lower()) if word]


def in_one_line(error: Exception) -> str:
    """The message of another library's error, without line breaks and colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)) or type(error).__name__
    return " ".join(text.split())[:600]
