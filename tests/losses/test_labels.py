"""Labels of the wrong kind name the mistake and the fix."""

import numpy as np
import pytest
from loss_values import BINARY, CATEGORICAL, MSE, SPARSE, one_hot

from gpucnn import losses
from gpucnn.errors import DataError, ShapeError
from gpucnn.losses import labels


@pytest.mark.parametrize(
    ("loss", "y", "outputs", "error", "words"),
    [
        (
            CATEGORICAL,
            np.arange(5),
            (None, 10),
            DataError,
            r"use sparse_categorical_crossentropy, or utils\.to_categorical\(y, 10\)",
        ),
        (CATEGORICAL, np.zeros((5, 1)), (None, 10), DataError, "use sparse_categorical_crossentropy"),
        (CATEGORICAL, np.zeros((5, 9)), (None, 10), ShapeError, "y has 9 columns and the model 10 outputs"),
        (CATEGORICAL, np.zeros((5, 4, 4)), (None, 10), ShapeError, r"\(5, 4, 4\) and the outputs have shape \(n, 10\)"),
        (CATEGORICAL, np.zeros((5, 10)), (4, 10), ShapeError, "same number of samples"),
        (CATEGORICAL, -np.ones((5, 2)), (None, 2), DataError, r"y\[0, 0\] is -1\.0.*cannot be negative"),
        (CATEGORICAL, np.ones((5, 1)), (None, 1), ShapeError, "use binary_crossentropy with a sigmoid"),
        (SPARSE, np.eye(5)[:3], (None, 5), DataError, r"use categorical_crossentropy, or y\.argmax\(axis=-1\)"),
        (SPARSE, np.zeros((3, 2)), (None, 5), ShapeError, "y has 2 columns"),
        (SPARSE, [0, 1, 5], (None, 5), DataError, r"y\[2\] is 5, out of range .* 5 outputs, for the classes 0 … 4"),
        (SPARSE, [0, -1], (None, 5), DataError, r"y\[1\] is -1, out of range"),
        (SPARSE, [1, 2, 3], (None, 3), DataError, r"labels are 1 … 3 .* give y - 1"),
        (SPARSE, [0.0, 1.5], (None, 3), DataError, r"y\[1\] is 1\.5 .* whole class numbers"),
        (SPARSE, [0.0, np.nan], (None, 3), DataError, r"y\[1\] is nan"),
        (SPARSE, ["cat", "dog"], (None, 3), DataError, "dtype <U3: give numbers"),
        (SPARSE, [0, 1], (None, 1), ShapeError, "use binary_crossentropy with a sigmoid"),
        (BINARY, np.eye(2)[[0, 1]], (None, 1), ShapeError, r"give y\[:, 1\], or use 2 outputs"),
        (BINARY, [-1, 1, 1], (None, 1), DataError, r"give \(y \+ 1\) / 2"),
        (BINARY, [0, 1, 2], (None, 1), DataError, r"y\[2\] is 2, .* use sparse_categorical_crossentropy"),
        (BINARY, [0, 1, 2], (None, 3), DataError, "for class numbers use sparse_categorical_crossentropy"),
        (BINARY, [0, np.inf], (None, 1), DataError, r"y\[1\] is inf"),
        (MSE, [0, 1, 2], (None, 10), DataError, "for class numbers use sparse_categorical_crossentropy"),
        (MSE, [[0, np.nan]], (None, 2), DataError, r"y\[0, 1\] is nan"),
        (losses.Huber(), np.zeros((3, 4)), (None, 5), ShapeError, "huber: .* y has 4 columns"),
        (losses.MeanAbsoluteError(), np.zeros((3, 4)), (None, 5), ShapeError, "mean_absolute_error"),
    ],
)
def test_labels_of_the_wrong_kind_name_the_mistake_and_the_fix(loss, y, outputs, error, words):
    with pytest.raises(error, match=words):
        losses.check_labels(loss, y, outputs)


@pytest.mark.parametrize(
    ("loss", "y", "outputs"),
    [
        (CATEGORICAL, np.eye(3), (None, 3)),
        (CATEGORICAL, np.full((2, 3), 1 / 3), (2, 3)),
        (SPARSE, np.arange(3), (None, 3)),
        (SPARSE, np.arange(3.0)[:, None], (None, 3)),
        (SPARSE, np.array([True, False]), (None, 2)),
        (SPARSE, np.zeros((2, 4, 4), np.uint8), (None, 4, 4, 7)),
        (SPARSE, np.zeros(0, np.int64), (None, 7)),
        (BINARY, [0, 1], (None, 1)),
        (BINARY, [[0.5], [1]], (None, 1)),
        (BINARY, np.eye(3), (None, 3)),
        (MSE, [1.5, -3], (None, 1)),
        (MSE, np.ones((2, 3)), (None, 3)),
        (losses.get(lambda y, p: None), ["anything"], (None, 3)),
    ],
)
def test_labels_of_the_right_kind_pass(loss, y, outputs):
    losses.check_labels(loss, y, outputs)


def test_a_wrong_label_is_found_in_any_batch(rng):
    """A generator's later batches are not checked beforehand; -1 would index the last class."""
    with pytest.raises(DataError, match=r"y\[1\] is -1"):
        SPARSE.forward(np.array([0, -1]), rng.random((2, 3)).astype(np.float32))


def test_labels_without_the_last_axis_of_one_fit_single_outputs():
    y_pred = np.array([[1.0], [3.0]], np.float32)
    np.testing.assert_array_equal(losses.mean_squared_error([0, 1], y_pred), [1, 4])
    np.testing.assert_array_equal(losses.mean_squared_error([[0], [1]], y_pred[:, 0]), [1, 4])
    _, backward = MSE.forward(np.array([[0.0], [1.0]]), y_pred[:, 0])
    np.testing.assert_array_equal(backward(np.ones(2, np.float32)), [2, 4])


def test_a_single_number_is_not_an_output():
    with pytest.raises(ShapeError, match="at least one axis"):
        MSE([1.0], 2.0)


def test_arrays_of_the_user_are_not_written_to(rng):
    y, p = one_hot([0, 1], 2), rng.random((2, 2)).astype(np.float32)
    for array in (y, p):
        array.setflags(write=False)
    for loss in (CATEGORICAL, BINARY, MSE):
        loss(y, p)
        values, backward = loss.forward(y, p)
        backward(np.ones_like(values))


def test_class_numbers_are_seen_in_rows_and_columns_and_nowhere_else():
    np.testing.assert_array_equal(labels.class_numbers(np.eye(3)[[2, 0]]), [2, 0])
    np.testing.assert_array_equal(labels.class_numbers(np.array([[1], [4]])), [1, 4])
    assert labels.class_numbers(np.array([0.5, 1.0])) is None
    assert labels.class_numbers(np.zeros((3, 2, 2))) is None
