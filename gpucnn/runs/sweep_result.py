"""What a sweep has found: its trials, and mean and spread of each combination of settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .run import plain
from .trials import FINISHED


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    values   the settings of the axes
    figures  by name: score (of the ranking), test_accuracy, test_loss, train_accuracy,
             validation_accuracy, seconds; None where there is none
    """

    values: dict[str, Any]
    seed: int
    folder: Path
    status: str = "waiting"
    error: str | None = None
    figures: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """The trials with one combination of settings: `scores` has those of the finished ones."""

    values: dict[str, Any]
    scores: list[float]
    trials: int
    failed: int
    seconds: float

    @property
    def mean(self) -> float:
        """The mean of the scores; NaN if no trial has finished."""
        return float(np.mean(self.scores)) if self.scores else float("nan")

    @property
    def deviation(self) -> float:
        """The standard deviation of the scores, of a sample; NaN of fewer than two."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else float("nan")


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found.

    trials      in the order of the axes
    ranked_by   "validation accuracy", or "test accuracy" without validation images
    note        that of the data set
    """

    folder: Path
    dataset: str
    note: str | None
    ranked_by: str
    trials: list[Trial]

    @property
    def rows(self) -> list[Row]:
        """A row for each combination of settings, the best mean first, those without a result last."""
        rows = []
        for _, group in itertools.groupby(self.trials, key=lambda trial: trial.values):
            members = list(group)
            done = [trial for trial in members if trial.status == FINISHED]
            scores = [trial.figures["score"] for trial in done]
            rows.append(
                Row(
                    members[0].values,
                    [score for score in scores if score is not None],
                    len(members),
                    len(members) - len(done),
                    sum(trial.figures["seconds"] or 0.0 for trial in done),
                )
            )
        return sorted(rows, key=lambda row: (not row.scores, -row.mean if row.scores else 0.0))

    @property
    def best(self) -> Trial | None:
        """The trial of the first row with the best score; None if no trial has a score."""
        scored = [trial for trial in self.trials if trial.figures.get("score") is not None]
        first = self.rows[0].values
        return max((t for t in scored if t.values == first), key=lambda t: t.figures["score"] or 0.0, default=None)

    def describe(self) -> dict[str, Any]:
        """All of it as JSON values."""
        rows = [{**asdict(row), "mean": row.mean, "deviation": row.deviation} for row in self.rows]
        described = [{**asdict(trial), "run": str(trial.folder)} for trial in self.trials]
        for trial in described:
            del trial["folder"]
        head = {"folder": str(self.folder), "dataset": self.dataset, "note": self.note, "ranked_by": self.ranked_by}
        return plain({**head, "rows": rows, "trials": described})


def label(values: Mapping[str, Any], seed: int | None = None) -> str:
    """The settings of a trial as a text, such as `learning_rate=0.01, filters=16, seed=0`."""
    words = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()]
    return ", ".join(words + ([] if seed is None else [f"seed={seed}"])) or "as given"
