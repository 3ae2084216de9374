"""A sweep: one training run for each combination of settings and each seed, and what they reach.

    result = sweep.run(RunSettings(recipe="torres"), {"learning_rate": [0.01, 0.1]}, seeds=3)
    for row in result.rows:                                  # the best first
        print(row.values, row.mean, row.deviation)

The folder of a sweep holds the folders of its trials, which are runs like any other. Their names
end in a hash of all that decides their results, so that the same sweep, or a larger one in the same
folder, trains only what is missing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..datasets import ProgressHook
from ..errors import ArgumentError, FileError, Interrupted, did_you_mean, warn
from ..files import explained, make_folder, write_atomically
from . import commands, own_kernels, trials, zoo
from .run import Run
from .settings import RunSettings, fingerprint
from .sweep_result import Sweep, Trial, label
from .trials import FINISHED, Outcome, Outcomes, Task

AXES = (
    *("model", "filters", "optimizer", "learning_rate", "batch_size", "epochs", "schedule", "weight_decay"),
    *("augment", "flip", "validation_split", "early_stopping", "best"),
)
"""The settings that an axis of a sweep can vary."""

_WITHOUT_EFFECT = ("threads", "save_every", "data", "data_dir", "strict", "parts")
"""Settings on which no result depends: of the images there is the fingerprint."""


def run(
    settings: RunSettings,
    axes: Mapping[str, Sequence[Any]],
    seeds: int = 1,
    folder: str | Path | None = None,
    jobs: int | None = None,
    *,
    load: Sequence[str | Path] = (),
    say: Callable[[str], None] = lambda line: None,
    progress: ProgressHook | None = None,
) -> Sweep | None:
    """Train every combination of the values of the axes with every seed, and compare them.

    settings  of all trials; their seed is the first one
    axes      values by setting, one of `AXES`
    seeds     how many trials each combination has
    folder    of the trials; None for `runs/sweep-<dataset>-<model>`
    jobs      trials at a time; None for one for each core, on a GPU one
    load      .py files with your kernels, which are executed, here and for each trial

    Under `mpiexec`, each rank trains one trial at a time, and all ranks but rank 0 get None. A trial
    that fails has its error and ends no other. Raises `ArgumentError` or another error of gpucnn for
    settings that do not fit, before any training; `Interrupted` after Ctrl-C, once each trial has
    saved a checkpoint: the same call goes on from there.
    """
    if not axes and seeds < 2:
        raise ArgumentError("a sweep needs axes, such as learning_rate=[0.01, 0.1], or two seeds and more")
    check(settings, axes, seeds, jobs)
    with trials.pool(jobs) as pool:
        if pool is None:
            return None
        combinations = [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
        planner = Planner(settings, seeds, folder, load, progress)
        planned = [pair for values in combinations for pair in planner.trials(values)]
        results = Results(planner.sweep(), len(planned), say, progress)
        left = [task for trial, task in planned if results.add(trial).status != FINISHED]
        say(
            f"{planner.data.name}: {results.finished} of {len(planned)} trials are finished; {len(left)} to train in "
            f"{planner.folder}"
        )
        return results.collect(pool(left, len(left)))


def check(settings: RunSettings, axes: Mapping[str, Sequence[Any] | None], seeds: int, jobs: int | None) -> None:
    """Raise `ArgumentError` unless the axes, with their values where those are a list, can be varied."""
    if "seed" in axes:
        raise ArgumentError("seed is not an axis: give the first seed and the number of seeds")
    for name, values in axes.items():
        if name not in AXES:
            hint = did_you_mean(name, AXES)
            raise ArgumentError(f"{name!r} cannot be an axis: {hint}{hint and ' '}the axes are {', '.join(AXES)}")
        if getattr(settings, name) is not None:
            raise ArgumentError(f"{name} is both an axis and set to {getattr(settings, name)}: give it once")
        if values is None:
            continue
        if not len(values):
            raise ArgumentError(f"the axis {name} has no values: give one or more")
        for number, value in enumerate(values):
            if value in values[:number]:
                raise ArgumentError(f"the axis {name} has the value {value} twice: give each once")
    for name, count in (("seeds", seeds), ("jobs", jobs)):
        if count is not None and count < 1:
            raise ArgumentError(f"{name}={count} is out of range: give 1 or more")


class Planner:
    """The trials of a sweep, each checked as far as that goes without training.

    settings  of all trials, with the device in use; their seed is the first one
    filled    the settings with what their recipe says
    data      the images
    folder    of the trials
    validated
              whether all trials so far have validation images, which rank them
    """

    def __init__(
        self,
        settings: RunSettings,
        seeds: int,
        folder: str | Path | None,
        load: Sequence[str | Path],
        progress: ProgressHook | None,
    ) -> None:
        self._load = load
        settings = replace(settings, load=own_kernels.load_for_new_run(load))
        filled, _ = commands.with_entry(settings)
        self.settings, self.seeds = settings.apply(), seeds
        self.filled = replace(filled, device=self.settings.device)
        self.data = filled.load_data(progress)
        self.validated = True
        self._known: dict[str, Any] = {"fingerprint": fingerprint(self.data), "classes": list(self.data.classes)}
        words = ("sweep", self.data.name, settings.recipe or settings.model or zoo.default_for(self.data.name).name)
        self.folder = Path("runs", _slug("-".join(words))) if folder is None else Path(folder).expanduser()

    def trials(self, values: Mapping[str, Any]) -> list[tuple[Trial, Task]]:
        """A trial for each seed. Raises the error of the first setting that does not fit."""
        filled, entry = commands.with_entry(replace(self.settings, **values))
        filled = replace(filled, **self._known)
        resolved, _, _ = commands.planned(filled, entry, self.data)
        self.validated &= self.data.x_val is not None or bool(resolved.validation_split)
        planned = []
        for seed in range(filled.seed, filled.seed + self.seeds):
            place = self.folder / _name(values, replace(resolved, seed=seed))
            planned.append((Trial(dict(values), seed, place), Task(replace(filled, seed=seed), place, load=self._load)))
        return planned

    def sweep(self) -> Sweep:
        """The sweep, still without trials."""
        ranked_by = "validation accuracy" if self.validated else "test accuracy"
        return Sweep(self.folder, self.data.name, self.data.note, ranked_by, [])

    def digest(self, *more: Any) -> str:
        """A hash of all settings that decide the results, of the images, and of more JSON values."""
        return _digest(replace(self.filled, **self._known), *more)


class Results:
    """What the trials of a sweep have reached so far.

    total  how many there will be
    """

    def __init__(
        self, sweep: Sweep, total: int, say: Callable[[str], None], progress: ProgressHook | None = None
    ) -> None:
        with explained("make", sweep.folder):
            make_folder(sweep.folder)
        self._sweep, self._total, self._say, self._progress = sweep, total, say, progress
        self._trials: dict[Path, Trial] = {}
        self._warned = set[str]()

    def add(self, trial: Trial) -> Trial:
        """Count a trial in; returns it with what its run folder says."""
        self._trials[trial.folder] = _read(trial, self._sweep.ranked_by)
        return self._trials[trial.folder]

    @property
    def finished(self) -> int:
        """How many trials are finished."""
        return sum(trial.status == FINISHED for trial in self._trials.values())

    def collect(self, outcomes: Outcomes, ended: Callable[[Trial], None] = lambda trial: None) -> Sweep:
        """Wait for all outcomes, then write table and picture.

        ended  called with each trial when it has ended
        """
        count = self.finished
        try:
            for outcome in outcomes:
                ended(self._end(outcome))
                count += 1
                if self._progress is not None:
                    self._progress("trials", count, self._total)
                if outcome.status == trials.STOPPED:
                    raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            outcomes.close()
            raise Interrupted(
                f"stopped; {self.finished} of {self._total} trials are finished: "
                f"give the same command again to go on in {self._sweep.folder}"
            ) from error
        result = replace(self._sweep, trials=list(self._trials.values()))
        _write(result)
        return result

    def _end(self, outcome: Outcome) -> Trial:
        trial = _read(self._trials[outcome.folder], self._sweep.ranked_by, outcome)
        self._trials[outcome.folder] = trial
        for message in outcome.warnings:
            if message not in self._warned:
                self._warned.add(message)
                warn(message)
        self._say(f"{label(trial.values, trial.seed)}: {_result(trial)}")
        return trial


def _read(trial: Trial, ranked_by: str, outcome: Outcome | None = None) -> Trial:
    """The trial with what its run folder says, and how it has just ended."""
    if outcome is not None and outcome.status != FINISHED:
        return replace(trial, status=outcome.status, error=outcome.error)
    if not (trial.folder / "run.json").exists():
        return trial
    try:
        run = Run.open(trial.folder)
        record = run.record
        if record.get("status") != FINISHED:
            return replace(trial, status=str(record.get("status")))
        curve = run.read_history().get("val_accuracy")
    except FileError as error:
        return replace(trial, status="damaged", error=str(error))
    best = record.get("best_epoch")
    validation = None if not curve else curve[best - 1 if best else -1]
    figures = {name: record.get(name) for name in ("test_accuracy", "test_loss", "train_accuracy", "seconds")}
    figures["validation_accuracy"] = validation
    figures["score"] = validation if ranked_by == "validation accuracy" else figures["test_accuracy"]
    return replace(trial, status=FINISHED, error=None, figures=figures)


def _write(sweep: Sweep) -> None:
    from .sweep_picture import picture  # which imports matplotlib

    text = json.dumps(sweep.describe(), indent=2, allow_nan=False) + "\n"
    write_atomically(sweep.folder / "sweep.json", text.encode())
    picture(sweep).save(sweep.folder / "sweep.png")


def _result(trial: Trial) -> str:
    if trial.status != FINISHED:
        return f"{trial.status}: {trial.error}"
    score, seconds = trial.figures["score"], trial.figures["seconds"]
    return f"{100 * score:.2f} % in {seconds or 0.0:.1f} s" if score is not None else "finished without a score"


def _name(values: Mapping[str, Any], settings: RunSettings) -> str:
    """The name of a trial's folder: readable, and with a hash of all that decides its result."""
    return f"{_slug(label(values, settings.seed).replace(', ', '-'))[:120]}-{_digest(settings)}"


def _digest(settings: RunSettings, *more: Any) -> str:
    deciding = {name: value for name, value in asdict(settings).items() if name not in _WITHOUT_EFFECT}
    if settings.load is None:  # as in folders of earlier versions
        del deciding["load"]
    text = "".join(json.dumps(value, sort_keys=True) for value in (deciding, *more))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", text.replace(os.sep, "-")).strip("-.")
