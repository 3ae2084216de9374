"""The folder of a training run: settings, checkpoints, history and results.

runs/2026-08-21-mnist-slides/
    run.json             settings, versions and, at the end, the results
    history.csv          one line for each epoch
    checkpoints/         the last two, each sufficient to resume bit for bit
    model.safetensors    the trained model
"""

from __future__ import annotations

import csv
import datetime
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
from typing import Any, get_type_hints

import numpy as np

from .. import distributed
from ..callbacks import Callback
from ..config import check_fields
from ..devices import choose, forks
from ..errors import ArgumentError, FileError, Interrupted, one_line, printable
from ..files import check_regular, explained, lock, make_folder, unlock, write_atomically
from ..models import loading, saving
from ..models.sequential import Sequential
from ..version import __version__, installed_version


class Results:
    """What `run.json` says of the outcome of a run; null until it is known."""

    dataset: str | None
    model: str | None
    device: str | None
    backend: str | None
    precision: str | None
    threads: int | None
    seed: int | None
    epochs: int | None
    epochs_trained: int | None
    best_epoch: int | None
    seconds: float | None
    images_per_second: float | None
    peak_device_bytes: int | None
    peak_host_bytes: int | None
    train_accuracy: float | None
    test_accuracy: float | None
    test_loss: float | None
    per_class: dict[str, dict[str, float | None]] | None
    parameters: int | None
    weights_sha256: str | None


class Record(Results):
    """What `run.json` holds. Files of later versions may hold more."""

    status: str
    note: str | None
    settings: dict[str, Any]
    versions: dict[str, str | None]


RESULTS = tuple(Results.__annotations__)

KEPT = 2
"""Checkpoints in a run folder: if the newest is damaged later, the one before it is used."""

_CHECKPOINT = re.compile(r"epoch-(\d+)-batch-(\d+)\.safetensors")


class Run:
    """One run folder. `record` is the content of its `run.json`."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def create(cls, folder: str | Path | None, settings: dict[str, Any]) -> Run:
        """Create a run in `folder`, by default the next free `runs/<date>-<dataset>-<model>`.

        settings  all that is needed to repeat the run, as JSON values; with `dataset` and `model`
        """
        record = {key: settings.get(key) for key in RESULTS}
        record |= {"status": "running", "note": settings.get("note"), "settings": settings, "versions": versions()}
        record["device"] = _device(record, settings)
        with explained("make", folder or "runs"):
            path = _free_folder(settings) if folder is None else Path(folder)
            make_folder(path)
        run = cls(path, record)
        if (path / "run.json").exists():
            raise FileError(f"{path} already holds a run: resume it with --resume {path}, or choose another folder")
        run._write_record()
        return run

    @classmethod
    def followed(cls, folder: str | Path | None, settings: dict[str, Any]) -> Run:
        """The run of a process that trains with the one that writes: nothing is written."""
        return cls(Path(folder or "runs"), {"status": "running", "settings": settings})

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open the run in `folder`. Raises `FileError` if there is none or it is damaged."""
        path = Path(folder)
        if not (path / "run.json").is_file():
            raise FileError(f"{path} is not a run folder: there is no run.json in it")
        record = saving.read_json(path / "run.json")
        try:
            if not {"settings", "versions"} <= record.keys():
                raise ArgumentError("settings or versions are missing")
            check_fields(Record, {key: value for key, value in record.items() if key in get_type_hints(Record)})
            return cls(path, _without_controls(record))
        except (ArgumentError, RecursionError) as error:
            raise FileError(f"{path / 'run.json'} is damaged: {error}") from error

    @property
    def settings(self) -> dict[str, Any]:
        """The settings with which the run was started."""
        return self.record["settings"]

    @property
    def model_file(self) -> Path:
        """The trained model, else the newest checkpoint. Raises `FileError` if there is neither."""
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
        """Keep other processes from training in this folder. The lock ends with the process,
        however it ends. Of the processes that train together, rank 0 holds it."""
        if not distributed.leads():
            yield
            return
        path = self.folder / ".lock"
        with explained("write", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                alone = lock(descriptor)
            except OSError as error:
                message = f"{path} cannot be locked ({error.strerror}): do not start a second run in its folder"
                warnings.warn(message, stacklevel=3)
                alone = True
            if not alone:
                raise FileError(f"{self.folder} is in use: another process is training in it; wait for it or stop it")
            _locks.add(descriptor)
            yield
        except BaseException:
            with suppress(OSError):
                _release(descriptor)
            raise
        with explained("close", path):
            _release(descriptor)

    def save_checkpoint(self, model: Sequential) -> Path:
        """Write a checkpoint of the state of `model`, then delete all but the newest two."""
        folder = self.folder / "checkpoints"
        with explained("make", folder):
            make_folder(folder)
        state = model.training_state
        path = folder / f"epoch-{state.epoch}-batch-{state.batch}.safetensors"
        saving.save_checkpoint(path, model)
        for old in self.checkpoints()[:-KEPT]:
            with suppress(OSError):
                old.unlink()
        return path

    def checkpoints(self) -> list[Path]:
        """The paths of all checkpoints, the oldest first; their content is not verified."""
        paths = {}
        for path in self.folder.glob("checkpoints/*"):
            match = _CHECKPOINT.fullmatch(path.name)
            if match:
                paths[int(match[1]), int(match[2])] = path
        return [paths[key] for key in sorted(paths)]

    def latest_checkpoint(self) -> Path | None:
        """The newest intact checkpoint, or None; a warning names each damaged newer one."""
        paths = self.checkpoints()
        for path in reversed(paths):
            try:
                saving.verify(path)
            except FileError as error:
                warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=2)
                continue
            return path
        if paths:
            raise FileError(f"{self.folder}: all {len(paths)} checkpoints are damaged; train in a new folder")
        return None

    def resume(self, custom_objects: dict[str, type] | None = None) -> Sequential | None:
        """The model in the state of the latest checkpoint, ready for `fit`; None without one.

        Warns if the run was started with other versions, because the last bits may depend on them.
        """
        then, now = self.record["versions"], versions()
        changed = [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]
        if changed:
            warnings.warn(f"the last bits may differ from an uninterrupted run: {'; '.join(changed)}", stacklevel=2)
        path = self.latest_checkpoint()
        if path is None:
            return None
        model = loading.load_model(path, custom_objects)
        saving.load_checkpoint(path, model)
        return model

    def write_history(self, model: Sequential) -> None:
        """Write `history.csv`: a line for each epoch so far, with every digit of each number."""
        state = model.training_state
        state.record()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *state.history])
        epochs = [epoch + 1 for epoch in state.epochs]
        writer.writerows(itertools.zip_longest(epochs, *state.history.values(), fillvalue=""))
        write_atomically(self.folder / "history.csv", text.getvalue().encode())

    def read_history(self) -> dict[str, list[float]]:
        """The columns of `history.csv` by name. Raises `FileError` if it is damaged."""
        path = self.folder / "history.csv"
        try:
            with explained("read", path):
                check_regular(path)
                with open(path, newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file))
            return {printable(name): [float(row[name]) for row in rows if row[name]] for name in rows[0]}
        except (IndexError, ValueError, TypeError, csv.Error) as error:
            raise FileError(f"{path} is damaged: {one_line(error)}") from error

    def finish(self, model: Sequential, results: dict[str, Any]) -> dict[str, Any]:
        """Write `model.safetensors`, then `run.json` with the results; returns its content."""
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
        """Apply changed settings (such as more epochs) and mark the run as running again."""
        self.record["settings"] = {**self.settings, **settings}
        device = _device(self.record, self.settings)
        self.record |= {key: self.settings.get(key) for key in RESULTS} | {"device": device, "status": "running"}
        if distributed.leads():
            self._write_record()

    def _write_record(self) -> None:
        self.record = plain(self.record)
        text = json.dumps(self.record, indent=2, allow_nan=False) + "\n"
        write_atomically(self.folder / "run.json", text.encode())


class Checkpoints(Callback):
    """Saves the history, and a checkpoint each epoch and every `save_every` batches.

    After a signal (see `stop_on_signals`), it saves once the current batch is trained and raises
    `Interrupted`; during validation, once the epoch ends.
    """

    saves_training = writes = True
    takes_late_logs = True

    def __init__(self, run: Run, save_every: int | None = None, stop: Stop | None = None) -> None:
        super().__init__()
        self.run = run
        self.save_every = save_every
        self.each_batch = save_every is not None
        self.stop = stop or Stop()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if a checkpoint is due or a signal has arrived."""
        due = self.save_every is not None and (batch + 1) % self.save_every == 0
        if due or self.stop.received:
            self.run.save_checkpoint(self.model)
        self._stop_if_signalled()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save a checkpoint and the history."""
        self.run.write_history(self.model)
        self.run.save_checkpoint(self.model)
        self._stop_if_signalled()

    def _stop_if_signalled(self) -> None:
        if self.stop.received:
            self.run.record["status"] = "interrupted"
            self.run._write_record()
            raise self.stop.interrupted(self.run.folder)


class Stop:
    """The signal that requests this process to stop; None until one arrives."""

    received: signal.Signals | None = None

    def interrupted(self, folder: str | Path) -> Interrupted:
        """The error to raise, with the usual exit status: 130 for Ctrl-C, 143 for SIGTERM."""
        assert self.received is not None
        advice = f"resume with: gpucnn train --resume {folder}"
        return Interrupted(f"stopped by {self.received.name}; {advice}", exit_status=128 + self.received)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Make Ctrl-C and SIGTERM stop after the current batch; a second signal ends the process.

    Raises `Interrupted` on leaving if the signal came too late for a batch or an epoch to react.
    """
    stop = Stop()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: Any) -> None:
        stop.received = signal.Signals(number)
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
    if stop.received:
        raise stop.interrupted("RUN")


_locks: set[int] = set()
"""The files by which this process holds the locks of its runs."""


def _release(descriptor: int) -> None:
    if descriptor in _locks:
        _locks.remove(descriptor)
        with suppress(OSError):  # of a file that could not be locked
            unlock(descriptor)
    os.close(descriptor)


def _forget_locks() -> None:
    """In a forked child: the locks are its parent's, and would outlive a parent that is killed."""
    while _locks:
        with suppress(OSError):
            os.close(_locks.pop())


forks.in_child(_forget_locks)


def versions() -> dict[str, str | None]:
    """What the last bits of a result depend on, apart from the settings."""
    return {
        "gpucnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": installed_version("numba"),
        "platform": platform.platform(),
    }


def _device(record: dict[str, Any], settings: dict[str, Any]) -> str | None:
    """The device for `run.json`. A run of which a part was trained on an emulated GPU says so."""
    then, now = record.get("device"), settings.get("device")
    return choose.described(now) if then == now and now is not None else then


def _free_folder(settings: dict[str, Any]) -> Path:
    """Create a new `runs/<date>-<dataset>-<model>`, one that no other process can get."""
    words = (datetime.date.today().isoformat(), settings["dataset"], settings["model"])
    name = "-".join(re.sub(r"[^\w.]+", "-", str(word)).strip("-.") for word in words)
    make_folder("runs")
    number = 1
    while True:
        path = Path("runs", name if number == 1 else f"{name}-{number}")
        try:
            make_folder(path, exist_ok=False)
        except FileExistsError:
            number += 1
            continue
        return path


def _without_controls(value: Any) -> Any:
    """The same JSON value, with all text but paths safe to print."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_without_controls(item) for item in value]
    if isinstance(value, dict):
        paths = {name: path for name, path in value.items() if name in ("data", "data_dir")}
        return {printable(name): _without_controls(item) for name, item in value.items()} | paths
    return value


def plain(value: Any) -> Any:
    """Convert to JSON values; numbers that are not finite become null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
