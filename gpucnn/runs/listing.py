"""The runs in a folder, compared by what is in their `run.json`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import FileError, warn
from ..files import explained
from .run import Run

_FROM_RECORD = (
    "dataset",
    "model",
    "device",
    "status",
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "epochs",
    "epochs_trained",
    "peak_device_bytes",
    "peak_host_bytes",
)
_FROM_SETTINGS = ("recipe", "optimizer", "learning_rate", "batch_size", "seed")


def list_runs(folder: str | Path) -> list[dict[str, Any]]:
    """The runs directly in a folder, the best test accuracy first, those without one last.

    A run that cannot be read is named in a warning and left out. Raises `FileError` if there is no
    such folder.
    """
    path = Path(os.path.expanduser(folder))
    if not path.is_dir():
        raise FileError(f"there is no folder {path}: give the folder that holds your runs")
    with explained("read", path):
        inside = sorted(entry for entry in path.iterdir() if (entry / "run.json").is_file())
    runs = []
    for place in [path] if (path / "run.json").is_file() else inside:
        try:
            run = Run.open(place)
        except FileError as error:
            warn(f"left out: {error}")
            continue
        values = {key: run.record.get(key) for key in _FROM_RECORD}
        values |= {key: run.settings.get(key) for key in _FROM_SETTINGS}
        runs.append({"run": str(place), **values, "note": run.record.get("note")})
    return sorted(runs, key=lambda run: -1.0 if run["test_accuracy"] is None else run["test_accuracy"], reverse=True)
