"""The logs of each epoch as a CSV file."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..arguments import PathLike
from ..errors import ArgumentError, FileError
from ..files import explained, write_atomically
from .callback import Callback
from .kept import Kept


class CSVLogger(Callback):
    """Writes the logs of each epoch as a line of a CSV file, after the column `epoch`.

    With `append`, the lines of an existing file stay, and missing values are written as NA;
    without, the file is replaced after the first epoch, unless training is resumed. A write that
    fails leaves the old file intact.
    """

    writes: ClassVar[bool] = True

    def __init__(self, filename: PathLike, separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise ArgumentError(f"CSVLogger(separator={separator!r}) must be one character, such as ',' or '\\t'")
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._found = b""

    def get_state(self) -> dict[str, Any]:
        """How many lines the file has."""
        return {"rows": len(self._rows)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Keep so many lines of the file that was there when training began."""
        rows = Kept(self, state).count("rows")
        self._read(self._found)
        del self._rows[rows:]

    def on_train_begin(self, logs: Any = None) -> None:
        """Read the lines that stay, and check that the file can be written."""
        self._columns, self._rows = [], []
        content = b""
        with explained("read", self.filename), suppress(FileNotFoundError):
            content = self.filename.read_bytes()
        self._found = content
        if self.append:
            self._read(content)
        write_atomically(self.filename, content)

    def _read(self, content: bytes) -> None:
        wrong = f"{self.filename} is not a CSV file with one header: choose another file, or append=False"
        try:
            text = io.StringIO(content.decode("utf-8-sig"), newline="")
            header, *lines = [line for line in csv.reader(text, delimiter=self.separator) if line] or [[]]
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileError(wrong) from error
        if len(set(header)) < len(header) or any(len(line) > len(header) for line in lines):
            raise FileError(wrong)
        self._columns = header
        self._rows = [dict(zip(header, line, strict=False)) for line in lines]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the line of the epoch."""
        names = sorted(logs or {})
        if not self._columns and not any(name.startswith("val_") for name in names):
            names += [f"val_{name}" for name in names]
        self._columns += [name for name in ("epoch", *names) if name not in self._columns]
        self._rows.append({"epoch": epoch, **{name: _cell(value) for name, value in (logs or {}).items()}})
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="NA", delimiter=self.separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self.filename, text.getvalue().encode())


def _cell(value: Any) -> Any:
    """A number as it is, an array as "[1, 2]"."""
    plain = np.asarray(value).tolist()
    return f"[{', '.join(map(str, plain))}]" if isinstance(plain, list) else plain
