"""A search: a sweep whose combinations are chosen by optuna, each from what the earlier ones reached.

    result = search.run(settings, {"learning_rate": Span(1e-4, 0.1), "filters": [8, 16]}, count=20)

Which combinations were tried is kept in a journal of optuna in the folder of the sweep.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..datasets import ProgressHook
from ..errors import ArgumentError, GpucnnError, one_line
from . import trials
from .settings import RunSettings
from .sweep import Planner, Results, check
from .sweep_result import Sweep, Trial, label
from .trials import FINISHED, Task

JOURNAL = "search.log"
"""The name of optuna's journal in the folder of a sweep."""


@dataclass(frozen=True)
class Span:
    """All numbers from `low` to `high`, whole ones if both ends are.

    If the ends are positive and a factor of 10 or more apart, the logarithms are searched.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ArgumentError(f"the range {self.low:g}..{self.high:g} is empty: give the smaller number first")

    def choose(self, trial: Any, name: str) -> float:
        """A number that optuna chooses; fractions have three significant digits."""
        logarithmic = self.low > 0 and self.high >= 10 * self.low
        if isinstance(self.low, int) and isinstance(self.high, int):
            return int(trial.suggest_int(name, self.low, self.high, log=logarithmic))
        return float(f"{trial.suggest_float(name, self.low, self.high, log=logarithmic):.3g}")


Axes = Mapping[str, Sequence[Any] | Span]
"""By setting, the values to choose from, or a range."""


def run(
    settings: RunSettings,
    axes: Axes,
    count: int,
    seeds: int = 1,
    folder: str | Path | None = None,
    jobs: int | None = None,
    *,
    load: Sequence[str | Path] = (),
    say: Callable[[str], None] = lambda line: None,
    progress: ProgressHook | None = None,
) -> Sweep | None:
    """Train `count` combinations, each with every seed; like `sweep.run` otherwise.

    A combination is judged by the mean accuracy on validation images. One that fails counts. The
    same call goes on after an interruption; with a larger `count` it adds combinations. With one job
    at a time, equal seeds choose equal combinations. Raises `ArgumentError` without optuna or
    without validation images.
    """
    optuna = _optuna()
    if not axes or count < 1:
        raise ArgumentError(
            "a search needs an axis, such as learning_rate=Span(1e-4, 0.1), and one combination or more"
        )
    check(settings, {name: None if isinstance(axis, Span) else axis for name, axis in axes.items()}, seeds, jobs)
    if "validation_split" in axes:
        raise ArgumentError("validation_split is an axis: a search compares all combinations on the same images")
    with trials.pool(jobs) as pool:
        if pool is None:
            return None
        planner = Planner(settings, seeds, folder, load, progress)
        if planner.data.x_val is None and not planner.filled.validation_split:
            raise ArgumentError(
                "a search compares combinations on validation images: hold out some with validation_split=0.1"
            )
        results = Results(planner.sweep(), count * seeds, say, progress)
        chosen = _Chosen(optuna, planner, axes, count, results, say)
        say(
            f"{planner.data.name}: {chosen.tried} of {count} combinations are tried; {count - chosen.tried} to choose "
            f"in {planner.folder}"
        )
        return results.collect(pool(chosen.tasks(), (count - chosen.tried) * seeds), chosen.end)


class _Chosen:
    """The combinations that optuna chooses, and what their trials have reached.

    tried  how many combinations have ended in an earlier search in this folder
    """

    def __init__(
        self, optuna: Any, planner: Planner, axes: Axes, count: int, results: Results, say: Callable[[str], None]
    ) -> None:
        self._planner, self._axes, self._count = planner, axes, count
        self._results, self._say = results, say
        self._states = states = optuna.trial.TrialState
        self._waiting: dict[Path, _Combination] = {}
        backend = optuna.storages.journal.JournalFileBackend(str(planner.folder / JOURNAL))
        self._study = study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=_study_name(planner, axes),
            direction="maximize",
            load_if_exists=True,
        )
        earlier = study.get_trials(deepcopy=False)
        study.sampler = optuna.samplers.TPESampler(seed=(planner.settings.seed + len(earlier)) % 2**32)
        for trial in earlier:
            if trial.state == states.RUNNING:  # interrupted: to be tried again
                study.tell(trial.number, state=states.FAIL)
                study.enqueue_trial(trial.params)
            elif trial.state == states.COMPLETE:
                for known, _ in planner.trials(trial.user_attrs["values"]):
                    results.add(known)
        self.tried = sum(trial.state in (states.COMPLETE, states.PRUNED) for trial in earlier)

    def tasks(self) -> Iterator[Task]:
        """The trials to be trained: a combination is chosen when its first trial can be trained."""
        for _ in range(self._count - self.tried):
            choice = self._study.ask()
            values = {
                name: axis.choose(choice, name) if isinstance(axis, Span) else choice.suggest_categorical(name, axis)
                for name, axis in self._axes.items()
            }
            choice.set_user_attr("values", values)
            try:
                planned = self._planner.trials(values)
            except GpucnnError as error:
                self._say(f"{label(values)}: {one_line(error)}")
                self._study.tell(choice, state=self._states.PRUNED)
                continue
            if any(trial.folder in self._waiting for trial, _ in planned):  # chosen again while it is trained
                self._study.tell(choice, state=self._states.FAIL)
                continue
            combination = _Combination(choice, [self._results.add(trial) for trial, _ in planned])
            left = [task for (_, task), trial in zip(planned, combination.trials) if trial.status != FINISHED]
            self._waiting |= {task.folder: combination for task in left}
            if not left:
                self._tell(combination)
            yield from left

    def end(self, trial: Trial) -> None:
        """Take in that a trial has ended; the last one of a combination decides its score."""
        if trial.status == trials.STOPPED:
            return
        combination = self._waiting.pop(trial.folder)
        combination.trials = [trial if trial.folder == old.folder else old for old in combination.trials]
        if combination not in self._waiting.values():
            self._tell(combination)

    def _tell(self, combination: _Combination) -> None:
        scores = [trial.figures["score"] for trial in combination.trials if trial.status == FINISHED]
        known = [score for score in scores if score is not None]
        if len(known) == len(combination.trials):
            self._study.tell(combination.choice, statistics.fmean(known))
        else:  # which counts as worse than any score
            self._study.tell(combination.choice, state=self._states.PRUNED)


@dataclass(eq=False)
class _Combination:
    """A choice of optuna, and its trial for each seed."""

    choice: Any
    trials: list[Trial]


def _study_name(planner: Planner, axes: Axes) -> str:
    """A name that differs for other settings, images, axes and seeds, whose scores say nothing here."""
    ranges = {name: asdict(axis) if isinstance(axis, Span) else list(axis) for name, axis in axes.items()}
    return planner.digest(planner.seeds, ranges)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ArgumentError("a search needs the package optuna: pip install 'gpucnn[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
