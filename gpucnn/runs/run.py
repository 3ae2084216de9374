"""The folder of a training run: settings, checkpoints, history and results, so that a run can be looked at and resumed.

runs/2026-08-21-mnist-slides/
    run.json             settings, versions and, in the end, the results
    history.csv          one line for each epoch
    checkpoints/         the last two, each enough to go on bit for bit
    model.safetensors    the trained model
"""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import io
import itertools
import json
import math
import os
import platform
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback
from ..errors import FileError, Interrupted
from ..files import explained, lock, write_atomically
from ..models import loading, saving
from ..version import __version__

if TYPE_CHECKING:
    from ..models.sequential import Sequential

RESULTS = (
    *("dataset", "model", "device", "backend", "precision", "seed", "epochs", "seconds", "images_per_second"),
    *("train_accuracy", "test_accuracy", "test_loss", "parameters", "weights_sha256"),
)
"""The keys of `run.json` that say how a run went; null until it is known."""

KEPT = 2
"""Checkpoints in a run folder: should the newest be damaged later, there is one before it."""

_CHECKPOINT = re.compile(r"epoch-(\d+)-batch-(\d+)\.safetensors")


class Run:
    """One run folder. `record` is what stands in its `run.json`."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def create(cls, folder: Any, settings: dict[str, Any]) -> Run:
        """A new run in `folder`, or in the next free `runs/<date>-<dataset>-<model>` if that is None.

        settings  whatever the run needs to be repeated, as JSON values; `dataset` and `model` must be among them.
        """
        record = {key: settings.get(key) for key in RESULTS}
        record |= {"status": "running", "note": settings.get("note"), "settings": settings, "versions": versions()}
        with explained("make", folder or "runs"):
            path = _free_folder(settings) if folder is None else Path(folder)
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, record)
        if (path / "run.json").exists():
            raise FileError(f"{path} holds a run already: go on with it by --resume {path}, or choose another folder")
        run._write_record()
        return run

    @classmethod
    def open(cls, folder: Any) -> Run:
        """The run that lies in `folder`. Raises `FileError` if there is none or its `run.json` is damaged."""
        path = Path(folder)
        if not (path / "run.json").is_file():
            raise FileError(f"{path} is not a run folder: there is no run.json in it")
        record = saving.read_json(path / "run.json")
        if not isinstance(record.get("settings"), dict) or not isinstance(record.get("versions"), dict):
            raise FileError(f"{path / 'run.json'} is damaged: settings or versions are missing")
        return cls(path, record)

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was started with."""
        return self.record["settings"]

    @property
    def model_file(self) -> Path:
        """The trained model; of an unfinished run the newest checkpoint. Raises `FileError` if there is neither."""
        trained = self.folder / "model.safetensors"
        if self.record.get("status") == "finished" and trained.exists():
            return trained
        newest = self.latest_checkpoint()
        if newest is None:
            raise FileError(f"{self.folder} has no trained model and no checkpoint: it was stopped before the first")
        return newest

    # -- while training ------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the lock ends with the process, however it ends."""
        path = self.folder / ".lock"
        with explained("write", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                alone = lock(descriptor)
            except OSError as error:
                warnings.warn(f"{path} cannot be locked ({error.strerror}): start no second run in it", stacklevel=3)
                alone = True
            if not alone:
                raise FileError(f"{self.folder} is in use: another process trains in it; wait for it or stop it")
            yield
        finally:
            os.close(descriptor)

    def save_checkpoint(self, model: Sequential) -> Path:
        """Write a checkpoint of where `model` stands; then let all but the newest two go."""
        folder = self.folder / "checkpoints"
        with explained("make", folder):
            folder.mkdir(exist_ok=True)
        state = model.training_state
        path = folder / f"epoch-{state.epoch}-batch-{state.batch}.safetensors"
        saving.save_checkpoint(path, model)
        for old in self.checkpoints()[:-KEPT]:
            with suppress(OSError):
                old.unlink()
        return path

    def checkpoints(self) -> list[Path]:
        """All checkpoints, the oldest first, unread."""
        found = {}
        for path in self.folder.glob("checkpoints/*"):
            match = _CHECKPOINT.fullmatch(path.name)
            if match:
                found[int(match[1]), int(match[2])] = path
        return [found[key] for key in sorted(found)]

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint that is whole, None if there is none yet; a warning names damaged newer ones."""
        paths = self.checkpoints()
        for path in reversed(paths):
            try:
                saving.verify(path)
            except FileError as error:
                warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=2)
                continue
            return path
        if paths:
            raise FileError(f"{self.folder}: none of its {len(paths)} checkpoints is whole; train in a new folder")
        return None

    def resume(self, custom_objects: dict[str, type] | None = None) -> Sequential | None:
        """The model as the latest checkpoint has it, to be given to `fit`; None if there is no checkpoint yet.

        Warns if the run was begun with other versions, since the last bits may depend on them.
        """
        then, now = self.record["versions"], versions()
        changed = [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]
        if changed:
            warnings.warn(f"the last bits may differ from an unbroken run: {'; '.join(changed)}", stacklevel=2)
        path = self.latest_checkpoint()
        if path is None:
            return None
        model = loading.load_model(path, custom_objects)
        saving.load_checkpoint(path, model)
        return model

    def write_history(self, model: Sequential) -> None:
        """Write `history.csv` anew: a line for each epoch so far, every digit of each number."""
        state = model.training_state
        state.record()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *state.history])
        epochs = [epoch + 1 for epoch in state.epochs]
        writer.writerows(itertools.zip_longest(epochs, *state.history.values(), fillvalue=""))
        write_atomically(self.folder / "history.csv", text.getvalue().encode())

    def finish(self, model: Sequential, results: dict[str, Any]) -> dict[str, Any]:
        """Write `model.safetensors`, then `run.json` with the results; returns what stands in it."""
        saving.save_model(model, self.folder / "model.safetensors", include_optimizer=False)
        self.record |= results
        self.record |= {
            "status": "finished",
            "parameters": model.count_params(),
            "weights_sha256": saving.weights_sha256(model),
        }
        self._write_record()
        return self.record

    def continue_with(self, settings: dict[str, Any]) -> None:
        """Take changed settings over (more epochs) and mark the run as running again."""
        self.record["settings"] = {**self.settings, **settings}
        self.record |= {key: self.settings.get(key) for key in RESULTS} | {"status": "running"}
        self._write_record()

    def _write_record(self) -> None:
        self.record = _plain(self.record)
        text = json.dumps(self.record, indent=2, allow_nan=False) + "\n"
        write_atomically(self.folder / "run.json", text.encode())


class Checkpoints(Callback):
    """Keeps a run folder up to date: a checkpoint each epoch and every `save_every` batches, and the history.

    When a signal asked to stop (see `stop_on_signals`), saves after the batch that is being trained and raises
    `Interrupted`; during validation, after the epoch.
    """

    def __init__(self, run: Run, save_every: int | None = None, stop: Stop | None = None) -> None:
        super().__init__()
        self.run = run
        self.save_every = save_every
        self.stop = stop or Stop()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if it is time to."""
        due = self.save_every is not None and (batch + 1) % self.save_every == 0
        if due or self.stop.asked:
            self.run.save_checkpoint(self.model)
        self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, and add a line to the history."""
        self.run.write_history(self.model)
        self.run.save_checkpoint(self.model)
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.stop.asked:
            self.run.record["status"] = "interrupted"
            self.run._write_record()
            raise self.stop.interrupted(self.run.folder)


class Stop:
    """Whether a signal asked this process to stop, and which."""

    asked: signal.Signals | None = None

    def interrupted(self, folder: Any) -> Interrupted:
        """The error that says so, with the exit status that shells expect: 130 for Ctrl-C, 143 for SIGTERM."""
        assert self.asked is not None
        advice = f"go on with: gpucnn train --resume {folder}"
        return Interrupted(f"stopped by {self.asked.name}; {advice}", exit_status=128 + self.asked)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let Ctrl-C and SIGTERM ask for a stop at the next batch instead of ending the process; a second one ends it.

    Raises `Interrupted` in the end if the signal came too late for a batch or an epoch to heed it.
    """
    stop = Stop()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: Any) -> None:
        stop.asked = signal.Signals(number)
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()
    if stop.asked:
        raise stop.interrupted("RUN")


def versions() -> dict[str, str]:
    """What, beside the settings, decides the last bits of a result."""
    return {
        "gpucnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": importlib.metadata.version("numba"),
        "platform": platform.platform(),
    }


def _free_folder(settings: dict[str, Any]) -> Path:
    """A fresh `runs/<date>-<dataset>-<model>`, made so that no other process gets the same."""
    words = (datetime.date.today().isoformat(), settings["dataset"], settings["model"])
    name = "-".join(re.sub(r"[^\w.]+", "-", str(word)).strip("-.") for word in words)
    Path("runs").mkdir(exist_ok=True)
    number = 1
    while True:
        path = Path("runs", name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            continue
        return path


def _plain(value: Any) -> Any:
    """JSON values; what is no finite number becomes null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
