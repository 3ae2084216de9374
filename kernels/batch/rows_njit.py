"""Count correct rows in one pass over their scores, one count for each slice of the rows.

Traffic: scores and labels read once, nothing written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.devices.njit import inner, njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import count_correct, count_correct_binary

from ..shared.slices_launch import in_slices


def _supports(scores: Spec, labels: Spec, **_: Any) -> bool:
    return scores.dtype == np.float32 and labels.dtype.name in ("int32", "float32")


@kernel(count_correct, "rows", "njit", supports=_supports)
def launch_rows(y, scores, labels):
    correct = np.empty(len(scores), np.uint8)
    in_slices(_classes if labels.ndim == 1 else _shares, (correct, scores, labels))
    y[0] = np.count_nonzero(correct)


@kernel(count_correct_binary, "rows", "njit", supports=_supports)
def launch_values(y, scores, labels, *, threshold):
    correct = np.empty(scores.size, np.uint8)
    in_slices(_above, (correct, scores.reshape(-1), labels.reshape(-1)), np.float32(threshold))
    y[0] = np.count_nonzero(correct)


@njit(forceinline=True)
def _largest(row):
    """The column of the largest score: the first of several, and a NaN is larger than any number."""
    best = 0
    for k in range(1, len(row)):
        if row[k] > row[best] or (row[k] != row[k] and row[best] == row[best]):
            best = k
    return best


@inner
def _classes(correct, scores, labels):
    for n in range(len(scores)):
        correct[n] = _largest(scores[n]) == labels[n]


@inner
def _shares(correct, scores, labels):
    for n in range(len(scores)):
        correct[n] = _largest(scores[n]) == _largest(labels[n])


@inner
def _above(correct, scores, labels, threshold):
    for i in range(len(scores)):
        correct[i] = labels[i] == (1 if scores[i] > threshold else 0)
