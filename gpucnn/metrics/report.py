"""Precision, recall and F1 of each class, from counted confusions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from ..arguments import Bounds, Fraction, Length, check, checked, numbers
from ..errors import ArgumentError, DataError, ShapeError
from ..losses import labels

AVERAGES = ("accuracy", "macro avg", "weighted avg")
"""The rows of a report below those of the classes."""


class Scores(NamedTuple):
    """The scores of each class, float64 (classes,), and its number of samples, int64 (classes,)."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


@checked
def classification_report(
    y_true: Any,
    y_pred: Any,
    *,
    target_names: Annotated[Sequence[str], Length(1)] | None = None,
    digits: Annotated[int, Bounds(0, 17)] = 2,
    output_dict: bool = False,
    zero_division: Any = 0.0,
) -> Any:
    """Precision, recall and F1 of each class, and their averages, as scikit-learn reports them.

    y_true, y_pred  (n,) class numbers, or (n, classes) one-hot rows or probabilities
    target_names    the names of the classes; by default their numbers
    digits          decimals in the text
    output_dict     return a dict {name: {"precision", "recall", "f1-score", "support"}} with
                    "accuracy", "macro avg" and "weighted avg", instead of the text
    zero_division   a score without any sample to compute it from, such as the precision of a class
                    that was never predicted; NaN is left out of the averages

    Raises `ShapeError` and `DataError` if the two do not fit together.
    """
    if not (isinstance(zero_division, float) and math.isnan(zero_division)):
        check("classification_report", "zero_division", zero_division, Fraction)
    counts = count_confusions(y_true, y_pred, None if target_names is None else len(target_names))
    names = [str(i) for i in range(len(counts))] if target_names is None else [str(name) for name in target_names]
    scores = scores_of(counts, zero_division)
    rows = {name: tuple(row) for name, row in zip(names, np.stack(scores[:3], axis=1).tolist())}
    if len(rows) < len(names) or set(AVERAGES) & set(names):
        raise ArgumentError(f"target_names={names} must be distinct, and other than {', '.join(AVERAGES)}")
    support, total = dict(zip(names, scores.support.tolist())), int(scores.support.sum())
    for name, weights in (("macro avg", np.ones(len(counts))), ("weighted avg", scores.support)):
        rows[name] = tuple(_average(score, weights) for score in scores[:3])
        support[name] = total
    accuracy = float(np.trace(counts) / total)
    heads = ("precision", "recall", "f1-score", "support")
    if output_dict:
        described: dict[str, Any] = {
            name: dict(zip(heads, (*row, support[name]), strict=True)) for name, row in rows.items()
        }
        return {**{name: described[name] for name in names}, "accuracy": accuracy, **described}
    width = max(len(name) for name in rows)
    lines = [f"{'':>{width}} " + "".join(f" {head:>9}" for head in heads), ""]
    for name, row in rows.items():
        if name == "macro avg":
            lines += ["", f"{'accuracy':>{width}} {'':>20} {accuracy:>9.{digits}f} {total:>9}"]
        lines.append(f"{name:>{width}} " + "".join(f" {score:>9.{digits}f}" for score in row) + f" {support[name]:>9}")
    return "\n".join(lines) + "\n"


def scores_of(counts: np.ndarray, zero_division: float) -> Scores:
    """The scores of each class by confusions (classes, classes), as of `count_confusions`."""
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(whole > 0, part / np.maximum(whole, 1), zero_division)

    return Scores(share(right, predicted), share(right, true), share(2 * right, true + predicted), true)


def count_confusions(y_true: Any, y_pred: Any, classes: int | None = None) -> np.ndarray:
    """How often each class (row) was predicted as each class (column): (classes, classes) int64.

    y_true, y_pred   (n,) class numbers, or (n, classes) one-hot rows or probabilities
    """
    true, predicted = (class_numbers(name, y) for name, y in (("y_true", y_true), ("y_pred", y_pred)))
    if len(true) != len(predicted):
        raise ShapeError(f"y_true has {len(true)} rows and y_pred {len(predicted)}: give one row for each image")
    highest = int(max(true.max(), predicted.max()))
    count = highest + 1 if classes is None else classes
    if highest >= count:
        raise DataError(f"class {highest} occurs, but there are {count} classes, 0 to {count - 1}")
    return np.bincount(true * count + predicted, minlength=count * count).reshape(count, count)


def class_numbers(name: str, y: Any) -> np.ndarray:
    """The class numbers (n,) of class numbers or rows (n, classes); `name` is for the `DataError`."""
    y = numbers(name, y)
    classes = labels.class_numbers(y) if y.ndim and len(y) else None
    if classes is None:
        raise DataError(f"{name} of shape {y.shape} must be class numbers (n,) or rows (n, classes)")
    return classes


def _average(scores: np.ndarray, weights: np.ndarray) -> float:
    known = ~np.isnan(scores)
    total = weights[known].sum()
    return float((scores[known] * weights[known]).sum() / total) if total else float("nan")
