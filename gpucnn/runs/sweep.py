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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..datasets import ProgressHook
from ..errors import ArgumentError, FileError, Interrupted, did_you_mean, warn
from ..files import explained, make_folder, write_atomically
from . import commands, trials
from .run import Run
from .settings import RunSettings, fingerprint
from .sweep_picture import picture
from .sweep_result import Sweep, Trial, label
from .trials import FINISHED, Outcome, Task

AXES = (
    *("model", "filters", "optimizer", "learning_rate", "batch_size", "epochs", "schedule", "weight_decay"),
    *("augment", "flip", "validation_split", "early_stopping", "best"),
)
"""The settings that an axis of a sweep can vary."""

_WITHOUT_EFFECT = ("threads", "save_every", "data", "data_dir", "strict", "load", "parts")
"""Settings on which no result depends: of the images there is the fingerprint."""


def run(
    settings: RunSettings,
    axes: Mapping[str, Sequence[Any]],
    seeds: int = 1,
    folder: str | Path | None = None,
    jobs: int | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: ProgressHook | None = None,
) -> Sweep | None:
    """Train every combination of the values of the axes with every seed, and compare them.

    settings  of all trials; their seed is the first one
    axes      values by setting, one of `AXES`
    seeds     how many trials each combination has
    folder    of the trials; None for `runs/sweep-<dataset>-<model>`
    jobs      trials at a time; None for one for each core, on a GPU one

    Under `mpiexec`, each rank trains one trial at a time, and all ranks but rank 0 get None. A trial
    that fails has its error and ends no other. Raises `ArgumentError` or another error of gpucnn for
    settings that do not fit, before any training; `Interrupted` after Ctrl-C, once each trial has
    saved a checkpoint: the same call goes on from there.
    """
    _check(settings, axes, seeds, jobs)
    with trials.pool(jobs) as pool:
        if pool is None:
            return None
        planned = _plan(settings, axes, seeds, folder, progress)
        return _train(planned, pool, say, progress)


@dataclass(frozen=True)
class _Plan:
    sweep: Sweep
    tasks: dict[Path, Task]


def _check(settings: RunSettings, axes: Mapping[str, Sequence[Any]], seeds: int, jobs: int | None) -> None:
    if not axes and seeds < 2:
        raise ArgumentError("a sweep needs axes, such as learning_rate=[0.01, 0.1], or two seeds and more")
    if "seed" in axes:
        raise ArgumentError("seed is not an axis: give the first seed and the number of seeds")
    for name, values in axes.items():
        if name not in AXES:
            hint = did_you_mean(name, AXES)
            raise ArgumentError(f"{name!r} cannot be an axis: {hint}{hint and ' '}the axes are {', '.join(AXES)}")
        if getattr(settings, name) is not None:
            raise ArgumentError(f"{name} is both an axis and set to {getattr(settings, name)}: give it once")
        if not len(values):
            raise ArgumentError(f"the axis {name} has no values: give one or more")
        for number, value in enumerate(values):
            if value in values[:number]:
                raise ArgumentError(f"the axis {name} has the value {value} twice: give each once")
    for name, count in (("seeds", seeds), ("jobs", jobs)):
        if count is not None and count < 1:
            raise ArgumentError(f"{name}={count} is out of range: give 1 or more")


def _plan(
    settings: RunSettings,
    axes: Mapping[str, Sequence[Any]],
    seeds: int,
    folder: str | Path | None,
    progress: ProgressHook | None,
) -> _Plan:
    """All trials with their folders, once each has been checked as far as that goes without training."""
    combinations = [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    variants = [replace(settings, **values) for values in combinations]
    entries = [commands.with_entry(variant) for variant in variants]
    settings = settings.apply()
    data = entries[0][0].load_data(progress)
    known: dict[str, Any] = {"fingerprint": fingerprint(data), "classes": list(data.classes), "device": settings.device}
    checked = []
    for filled, entry in entries:
        resolved, _, _ = commands.planned(replace(filled, **known), entry, data)
        checked.append((replace(filled, **known), resolved))
    words = (data.name, settings.recipe or (str(settings.model) if settings.model else checked[0][1].model))
    target = Path("runs", _slug("sweep-" + "-".join(map(str, words)))) if folder is None else Path(folder).expanduser()
    found, tasks = [], {}
    for values, (filled, resolved) in zip(combinations, checked):
        for seed in range(settings.seed, settings.seed + seeds):
            place = target / _name(values, replace(resolved, seed=seed))
            found.append(Trial(values, seed, place))
            tasks[place] = Task(replace(filled, seed=seed), place)
    validated = data.x_val is not None or all(resolved.validation_split for _, resolved in checked)
    ranked_by = "validation accuracy" if validated else "test accuracy"
    return _Plan(Sweep(target, data.name, data.note, ranked_by, found), tasks)


def _train(plan: _Plan, pool: trials.Pool, say: Callable[[str], None], progress: ProgressHook | None) -> Sweep:
    sweep = plan.sweep
    with explained("make", sweep.folder):
        make_folder(sweep.folder)
    ended = {trial.folder: _read(trial, sweep.ranked_by) for trial in sweep.trials}
    left = [trial for trial in sweep.trials if ended[trial.folder].status != FINISHED]
    total = len(sweep.trials)
    say(f"{sweep.dataset}: {total - len(left)} of {total} trials are finished; {len(left)} to train in {sweep.folder}")
    by_folder = {trial.folder: trial for trial in sweep.trials}
    count, warned = total - len(left), set[str]()

    def step(outcome: Outcome) -> None:
        trial = _read(by_folder[outcome.folder], sweep.ranked_by, outcome)
        ended[outcome.folder] = trial
        for message in outcome.warnings:
            if message not in warned:
                warned.add(message)
                warn(message)
        say(f"{label(trial.values, trial.seed)}: {_result(trial)}")

    outcomes = pool([plan.tasks[trial.folder] for trial in left])
    try:
        for outcome in outcomes:
            step(outcome)
            count += 1
            if progress is not None:
                progress("trials", count, total)
            if outcome.status == trials.STOPPED:
                raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        outcomes.close()
        done = sum(trial.status == FINISHED for trial in ended.values())
        raise Interrupted(
            f"stopped; {done} of {total} trials are finished: give the same command again to go on in {sweep.folder}"
        ) from error
    result = replace(sweep, trials=[ended[trial.folder] for trial in sweep.trials])
    _write(result)
    return result


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
    deciding = {name: value for name, value in asdict(settings).items() if name not in _WITHOUT_EFFECT}
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:10]
    return f"{_slug(label(values, settings.seed).replace(', ', '-'))[:120]}-{digest}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", text.replace(os.sep, "-")).strip("-.")
