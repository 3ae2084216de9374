"""Reports by class agree with scikit-learn's, whose published examples are repeated here."""

import math

import numpy as np
import pytest

from gpucnn import metrics
from gpucnn.errors import ArgumentError, DataError, ShapeError

TRUE, PREDICTED, NAMES = [0, 1, 2, 2, 2], [0, 0, 2, 2, 1], ["class 0", "class 1", "class 2"]

TEXT = """\
              precision    recall  f1-score   support

     class 0       0.50      1.00      0.67         1
     class 1       0.00      0.00      0.00         1
     class 2       1.00      0.67      0.80         3

    accuracy                           0.60         5
   macro avg       0.50      0.56      0.49         5
weighted avg       0.70      0.60      0.61         5
"""
"""From the documentation of sklearn.metrics.classification_report."""


def test_the_text_is_that_of_scikit_learn():
    assert metrics.classification_report(TRUE, PREDICTED, target_names=NAMES) == TEXT


def test_the_dict_has_every_number_in_full():
    report = metrics.classification_report(TRUE, PREDICTED, target_names=NAMES, output_dict=True)
    assert list(report) == [*NAMES, "accuracy", "macro avg", "weighted avg"]
    assert report["accuracy"] == 0.6
    assert report["class 2"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1-score": pytest.approx(0.8),
        "support": 3,
    }
    assert report["macro avg"]["f1-score"] == pytest.approx((2 / 3 + 0 + 0.8) / 3)
    assert report["weighted avg"]["precision"] == pytest.approx((0.5 + 0 + 3) / 5)
    assert report["weighted avg"]["support"] == 5


def test_rows_and_probabilities_count_as_their_largest():
    report = metrics.classification_report(np.eye(3)[TRUE], np.eye(3)[PREDICTED] * 0.4 + 0.2, output_dict=True)
    assert report == metrics.classification_report(TRUE, PREDICTED, output_dict=True)
    assert list(report)[:3] == ["0", "1", "2"]


def test_a_score_without_samples_is_what_was_asked_for_and_nan_leaves_the_averages():
    report = metrics.classification_report([0, 0], [0, 0], target_names=["a", "b"], output_dict=True)
    assert report["b"] == {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "support": 0}
    report = metrics.classification_report(
        [0, 0, 1], [0, 0, 0], target_names=["a", "b"], output_dict=True, zero_division=math.nan
    )
    assert math.isnan(report["b"]["precision"])
    assert (report["b"]["recall"], report["b"]["f1-score"]) == (0, 0)
    assert report["macro avg"]["precision"] == pytest.approx(2 / 3)


def test_digits_are_those_of_the_text():
    assert "0.667" in metrics.classification_report(TRUE, PREDICTED, digits=3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], [0]), ShapeError, "y_true has 2 rows and y_pred 1"),
        (([], []), DataError, "y_true of shape"),
        (([0.5], [0]), DataError, r"y_true of shape \(1,\) must be class numbers"),
        (([0, 3], [0, 0], ["a", "b"]), DataError, "class 3 occurs, but there are 2 classes"),
        (([0, 1], [0, 0], ["a", "a"]), ArgumentError, "must be distinct"),
        (([0, 1], [0, 0], ["accuracy", "b"]), ArgumentError, "other than accuracy, macro avg, weighted avg"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    y_true, y_pred, *names = arguments
    with pytest.raises(error, match=message):
        metrics.classification_report(y_true, y_pred, target_names=names[0] if names else None)
