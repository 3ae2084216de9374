"""Metrics: values of Keras' documentation, weights, states that survive a checkpoint, and names."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from gpucnn import config, losses, metrics
from gpucnn.errors import ArgumentError, DataError, ShapeError


def measured(metric, *args, **kwargs):
    metric.update_state(*args, **kwargs)
    return metric.result()


def eye(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "y_true", "y_pred", "weights", "expected"),
    [
        (metrics.Accuracy(), [[1], [2], [3], [4]], [[0], [2], [3], [4]], None, 0.75),
        (metrics.Accuracy(), [[1], [2], [3], [4]], [[0], [2], [3], [4]], [1, 1, 0, 0], 0.5),
        (metrics.BinaryAccuracy(), [[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]], None, 0.75),
        (metrics.BinaryAccuracy(), [[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]], [1, 0, 0, 1], 0.5),
        (metrics.BinaryAccuracy(), [[0], [0], [1]], [[0.5], [0.5], [0.5]], None, 2 / 3),
        (metrics.BinaryAccuracy(threshold=0.7), [1, 1, 0, 0], [[0.98], [1], [0], [0.6]], None, 1.0),
        (metrics.CategoricalAccuracy(), [[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], None, 0.5),
        (metrics.CategoricalAccuracy(), [[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], [0.7, 0.3], 0.3),
        (metrics.SparseCategoricalAccuracy(), [2, 1], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]], None, 0.5),
        (metrics.SparseCategoricalAccuracy(), [[2], [1]], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]], [0.7, 0.3], 0.3),
        (metrics.TopKCategoricalAccuracy(k=1), [[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], None, 0.5),
        (metrics.TopKCategoricalAccuracy(k=2), [[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], None, 1.0),
        (metrics.SparseTopKCategoricalAccuracy(k=1), [2, 1], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], [0.7, 0.3], 0.3),
        (metrics.SparseTopKCategoricalAccuracy(), [[2], [1]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], None, 1.0),
        (metrics.MeanSquaredError(), [[0, 1], [0, 0]], [[1, 1], [0, 0]], None, 0.25),
        (metrics.MeanSquaredError(), [[0, 1], [0, 0]], [[1, 1], [0, 0]], [1, 0], 0.5),
        (metrics.MeanAbsoluteError(), [[0, 1], [0, 0]], [[1, 1], [0, 0]], None, 0.25),
        (metrics.BinaryCrossentropy(), [[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]], None, 0.81492424),
        (metrics.BinaryCrossentropy(), [[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]], [1, 0], 0.9162905),
        (
            metrics.CategoricalCrossentropy(),
            [[0, 1, 0], [0, 0, 1]],
            [[0.05, 0.95, 0], [0.1, 0.8, 0.1]],
            None,
            1.1769392,
        ),
        (
            metrics.CategoricalCrossentropy(),
            [[0, 1, 0], [0, 0, 1]],
            [[0.05, 0.95, 0], [0.1, 0.8, 0.1]],
            [0.3, 0.7],
            1.6271976,
        ),
        (metrics.SparseCategoricalCrossentropy(), [1, 2], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]], None, 1.1769392),
        (metrics.Precision(), [0, 1, 1, 1], [1, 0, 1, 1], None, 2 / 3),
        (metrics.Precision(), [0, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0], 1.0),
        (metrics.Precision(top_k=2), [[0, 0, 1, 1]], [[1, 1, 1, 1]], None, 0.0),
        (metrics.Precision(top_k=4), [[0, 0, 1, 1]], [[1, 1, 1, 1]], None, 0.5),
        (metrics.Precision(thresholds=[0.2], class_id=1), [[0, 1], [0, 0]], [[0.9, 0.3], [0.9, 0.1]], None, 1.0),
        (metrics.Recall(), [0, 1, 1, 1], [1, 0, 1, 1], None, 2 / 3),
        (metrics.Recall(), [[0], [1], [1], [1]], [1, 0, 1, 1], [[0], [0], [1], [0]], 1.0),
        (metrics.Recall(thresholds=0.95), [0, 1], [1.0, 0.9], None, 0.0),
    ],
    ids=lambda value: value.name if isinstance(value, metrics.Metric) else "",
)
def test_values_of_keras_documentation(metric, y_true, y_pred, weights, expected):
    metric.reset_state()
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred, np.float32)
    assert measured(metric, y_true, y_pred, sample_weight=weights) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "weight", "expected"),
    [
        ((4,), None, 1.5),
        ((4,), [1, 1, 0, 0], 0.5),
        ((4, 1), [[1], [1], [0], [0]], 0.5),
        ((4,), [[1], [1], [0], [0]], 0.5),
        ((2, 2), [1, 3], (0.5 + 3 * 2.5) / 4),
        ((2, 2), [[1, 0], [0, 1]], (0 / 2 + 3 / 2) / (0.5 + 0.5)),
        ((), None, 1.0),
        ((), 3.0, 1.0),
        ((2, 2), 3.0, 1.5),
    ],
)
def test_mean_weighs_as_keras_does(shape, weight, expected):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) if shape else 1.0
    assert measured(metrics.Mean(), values, sample_weight=weight) == pytest.approx(expected, rel=1e-12)


def test_mean_of_nothing_is_zero():
    assert metrics.Mean().result() == 0.0
    assert metrics.Precision().result() == 0.0
    assert metrics.Recall().result() == 0.0


def test_weights_of_another_length_are_refused():
    with pytest.raises(ShapeError, match=r"sample_weight has shape \(3,\) and the metric's values \(2,\)"):
        metrics.SparseCategoricalAccuracy().update_state([0, 1], np.eye(2), sample_weight=[1, 1, 1])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.booleans(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_batches_add_up_to_the_whole(sizes, weighted, seed):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    y, p = rng.integers(0, 4, n), rng.random((n, 4))
    weights = rng.integers(0, 4, n).astype(float) if weighted else None
    whole, parts = metrics.SparseTopKCategoricalAccuracy(k=2), metrics.SparseTopKCategoricalAccuracy(k=2)
    whole.update_state(y, p, weights)
    for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
        rows = slice(stop - size, stop)
        parts.update_state(y[rows], p[rows], None if weights is None else weights[rows])
    assert parts.result() == whole.result()


def test_ties_count_as_among_the_top_k_and_nan_does_not():
    ties = np.array([[1.0, 1.0, 1.0]])
    assert metrics.sparse_top_k_categorical_accuracy([2], ties, k=1) == 1
    assert metrics.sparse_top_k_categorical_accuracy([0], np.array([[np.nan, 1.0, 2.0]]), k=3) == 0


def test_accuracies_of_pixels_have_the_shape_of_the_labels(rng):
    y, p = rng.integers(0, 3, (2, 4, 5)), rng.random((2, 4, 5, 3))
    expected = (p.argmax(-1) == y).astype(np.float32)
    np.testing.assert_array_equal(metrics.sparse_categorical_accuracy(y, p), expected)
    np.testing.assert_array_equal(metrics.categorical_accuracy(eye(y, 3), p), expected)
    np.testing.assert_array_equal(metrics.sparse_top_k_categorical_accuracy(y, p, 1), expected)
    np.testing.assert_array_equal(metrics.top_k_categorical_accuracy(eye(y, 3), p, 1), expected)
    assert measured(metrics.SparseCategoricalAccuracy(), y, p) == pytest.approx(expected.mean(), rel=1e-6)


def test_counts_are_exact_after_many_batches():
    """In float32 a count stops growing at 2²⁴."""
    metric = metrics.BinaryAccuracy()
    metric.set_state({"total": 2.0**24, "count": 2.0**25})
    metric.update_state([[1.0]], [[1.0]])
    assert float(metric.get_state()["total"]) == 2**24 + 1


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [metrics.SparseCategoricalAccuracy, metrics.SparseCategoricalCrossentropy])
def test_state_goes_through_json_and_back_bit_for_bit(make, rng):
    y, p = rng.integers(0, 3, 10), rng.dirichlet(np.ones(3), 10)
    one, two = make(), make()
    one.update_state(y[:6], p[:6])
    saved = json.loads(json.dumps({name: value.tolist() for name, value in one.get_state().items()}))
    two.set_state({name: np.asarray(value) for name, value in saved.items()})
    for metric in (one, two):
        metric.update_state(y[6:], p[6:])
    assert one.result() == two.result()


def test_saved_state_is_a_copy():
    metric = metrics.Mean()
    metric.update_state([2.0, 4.0])
    state = metric.get_state()
    metric.reset_state()
    assert metric.result() == 0.0
    metric.set_state(state)
    metric.update_state([6.0])
    assert (metric.result(), float(state["count"])) == (4.0, 2.0)


@pytest.mark.parametrize("state", [{}, {"total": 1.0}, {"total": 1.0, "count": [1.0, 2.0]}])
def test_state_that_does_not_fit_changes_nothing(state):
    metric = metrics.Mean()
    metric.update_state([2.0])
    with pytest.raises(ArgumentError, match="the state of the metric mean needs"):
        metric.set_state(state)
    assert metric.result() == 2.0


def test_calling_a_metric_updates_it_and_returns_the_result():
    metric = metrics.Mean(name="m")
    assert metric([1.0, 3.0]) == 2.0
    assert metric([8.0], sample_weight=[2.0]) == 5.0
    assert repr(metric) == "<Mean name=m>"


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["accuracy", "acc", "Accuracy"])
@pytest.mark.parametrize(
    ("y_shape", "pred_shape", "expected"),
    [
        ((8, 1), (8, 1), metrics.BinaryAccuracy),
        ((8,), (8, 1), metrics.BinaryAccuracy),
        ((8,), (8, 10), metrics.SparseCategoricalAccuracy),
        ((8, 1), (8, 10), metrics.SparseCategoricalAccuracy),
        ((8, 10), (8, 10), metrics.CategoricalAccuracy),
        ((8, 4, 4), (8, 4, 4, 3), metrics.SparseCategoricalAccuracy),
    ],
)
def test_accuracy_is_chosen_by_the_shapes_and_keeps_the_given_name(name, y_shape, pred_shape, expected):
    metric = metrics.get(name, y_shape, pred_shape)
    assert type(metric) is expected
    assert metric.name == name


@pytest.mark.parametrize(
    ("identifier", "expected", "name", "direction"),
    [
        ("mse", metrics.MeanSquaredError, "mse", "down"),
        ("mean_absolute_error", metrics.MeanAbsoluteError, "mean_absolute_error", "down"),
        ("bce", metrics.BinaryCrossentropy, "bce", "down"),
        ("top_k_categorical_accuracy", metrics.TopKCategoricalAccuracy, "top_k_categorical_accuracy", "up"),
        ("SparseTopKCategoricalAccuracy", metrics.SparseTopKCategoricalAccuracy, "SparseTopKCategoricalAccuracy", "up"),
        ("accuracy", metrics.Accuracy, "accuracy", "up"),
        (metrics.Precision, metrics.Precision, "precision", "up"),
        (losses.huber, metrics.MeanMetricWrapper, "huber", "down"),
        (losses.Huber(2.0), metrics.MeanMetricWrapper, "huber_loss", "down"),
        (metrics.categorical_accuracy, metrics.MeanMetricWrapper, "categorical_accuracy", None),
        ({"class_name": "Recall", "config": {"top_k": 3, "name": "r3"}}, metrics.Recall, "r3", "up"),
    ],
)
def test_get_finds_names_functions_classes_and_descriptions(identifier, expected, name, direction):
    metric = metrics.get(identifier)
    assert (type(metric), metric.name, metric.direction) == (expected, name, direction)


def test_get_returns_objects_as_they_are():
    metric = metrics.Recall(name="mine")
    assert metrics.get(metric) is metric


@pytest.mark.parametrize("name", ["AUC", "F1Score", "f1_score", "RootMeanSquaredError"])
def test_metrics_that_only_keras_has_are_refused_by_name(name):
    with pytest.raises(ArgumentError, match=f"metrics.{name} is not in gpucnn"):
        metrics.get(name)
    with pytest.raises(ArgumentError, match=f"metrics.{name} is not in gpucnn"):
        getattr(metrics, name)


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: metrics.get("acuracy"), "did you mean 'accuracy'"),
        (lambda: metrics.get(None), "None is not a metric"),
        (lambda: metrics.get(3), "3 is not a metric"),
        (lambda: metrics.Mean(dtype="float16"), "dtype='float16'"),
        (lambda: metrics.TopKCategoricalAccuracy(k=0), "k=0"),
        (lambda: metrics.Precision(top_k=2.5), r"top_k=2\.5"),
        (lambda: metrics.Precision(thresholds=[0.1, 0.5]), "one Precision for each threshold"),
        (lambda: metrics.Recall(thresholds=1.5), r"thresholds=1\.5"),
        (lambda: metrics.BinaryAccuracy(treshold=0.5), "did you mean 'threshold'"),
        (lambda: metrics.SparseCategoricalCrossentropy(ignore_class=0), "ignore_class=0"),
    ],
)


@pytest.mark.parametrize(
    ("metric", "y", "p", "error", "words"),
    [
        (metrics.CategoricalAccuracy(), [0, 1], np.eye(2), ShapeError, r"one shape .*utils\.to_categorical"),
        (metrics.Precision(), np.zeros((2, 3)), np.zeros((2, 4)), ShapeError, r"\(2, 3\) and \(2, 4\)"),
        (metrics.SparseCategoricalAccuracy(), np.eye(2), np.eye(2), DataError, "use categorical_accuracy, or y.argmax"),
        (metrics.SparseTopKCategoricalAccuracy(), [0, 2], np.eye(2), DataError, "out of range"),
        (metrics.SparseTopKCategoricalAccuracy(), [0, -1], np.eye(2), DataError, "out of range"),
    ],
)
def test_labels_that_do_not_fit_are_refused(metric, y, p, error, words):
    with pytest.raises(error, match=words):
        metric.update_state(y, p)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.BinaryAccuracy("mine", threshold=0.25),
        metrics.TopKCategoricalAccuracy(3),
        metrics.Precision(0.5, class_id=1, name="p"),
        metrics.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    ],
    ids=lambda metric: metric.name,
)
def test_description_of_a_metric_makes_an_equal_one(metric, rng):
    again = config.deserialize(json.loads(json.dumps(config.serialize(metric))))
    y, p = eye(rng.integers(0, 4, 20), 4), rng.random((20, 4))
    metric.reset_state()
    assert again.name == metric.name
    assert measured(again, y, p) == measured(metric, y, p)


# -- metrics of users --------------------------------------------------------------------------------------------------


def test_function_of_the_user_is_averaged(rng):
    def largest(y_true, y_pred, scale=1):
        return scale * np.abs(y_pred - y_true).max(axis=-1)

    y, p = rng.random((6, 3)), rng.random((6, 3))
    metric = metrics.get(largest)
    assert (metric.name, metric.direction) == ("largest", None)
    assert measured(metric, y, p) == pytest.approx(np.abs(p - y).max(axis=-1).mean())
    doubled = metrics.MeanMetricWrapper(largest, name="twice", scale=2)
    assert doubled.name == "twice"
    assert measured(doubled, y, p) == pytest.approx(2 * metric.result())
    assert measured(metrics.get(lambda y, p: 7), y, p) == 7.0


@pytest.mark.parametrize("wrong", [None, "a", (1.0, 2.0), {"a": 1}])
def test_function_that_returns_no_numbers_is_explained(wrong):
    with pytest.raises(ArgumentError, match="return one number for each sample"):
        metrics.MeanMetricWrapper(lambda y, p: wrong).update_state([1.0], [1.0])


def test_subclass_of_the_user_keeps_its_state():
    class LargestError(metrics.Metric):
        def __init__(self, name="largest_error", dtype=None):
            super().__init__(dtype, name)
            self.largest = self.add_variable(name="largest")
            self.seen = self.add_variable((2,), "ones")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.largest[...] = max(self.largest, np.abs(y_pred - y_true).max())
            self.seen += 1

        def result(self):
            return float(self.largest)

    metric = LargestError()
    assert metric(np.array([1.0, 5.0]), np.array([2.0, 2.0])) == 3.0
    state = metric.get_state()
    assert state.keys() == {"largest", "variable_1"}
    np.testing.assert_array_equal(state["variable_1"], [2, 2])
    metric.reset_state()
    assert metric.result() == 0.0
    metric.set_state(state)
    assert metric.result() == 3.0


def test_subclass_without_its_methods_says_which_are_missing():
    with pytest.raises(NotImplementedError, match="must define update_state"):
        metrics.Metric().update_state([1], [1])
    with pytest.raises(NotImplementedError, match="must define result"):
        metrics.Metric().result()


def test_loss_functions_are_metrics_too():
    for name in ("mean_squared_error", "huber", "binary_crossentropy", "sparse_categorical_crossentropy"):
        assert getattr(metrics, name) is getattr(losses, name)
