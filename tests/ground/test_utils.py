"""Keras' utils: one-hot labels, seeds, norms, and the names that gpucnn lacks."""

import random

import numpy as np
import pytest

import gpucnn
from gpucnn import initializers, utils
from gpucnn.errors import ArgumentError, DataError


def test_to_categorical_by_hand():
    rows = utils.to_categorical([0, 2, 1])
    np.testing.assert_array_equal(rows, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert rows.dtype == np.float32


@pytest.mark.parametrize(
    ("x", "num_classes", "shape"),
    [
        (np.zeros((5, 1), np.uint8), 10, (5, 10)),
        (np.zeros((5, 1, 1)), 2, (5, 1, 2)),
        (np.zeros((5, 4, 3), int), 2, (5, 4, 3, 2)),
        (3, None, (4,)),
        (np.array([True, False]), None, (2, 2)),
        (np.array([1.0, 2.0]), None, (2, 3)),
        (np.zeros(0, int), 4, (0, 4)),
    ],
)
def test_to_categorical_puts_the_classes_last(x, num_classes, shape):
    rows = utils.to_categorical(x, num_classes)
    assert rows.shape == shape
    assert (rows.sum(axis=-1) == 1).all()
    labels = np.asarray(x).reshape(rows.shape[:-1])
    np.testing.assert_array_equal(rows.argmax(axis=-1), labels)


@pytest.mark.parametrize(
    ("x", "num_classes", "error", "words"),
    [
        ([0, -1], None, DataError, "label -1, out of range for 1 classes"),
        ([-3], None, DataError, "label -3"),
        ([0, 10], 10, DataError, "label 10, out of range for 10 classes, 0 … 9"),
        ([0.5], None, DataError, r"label 0\.5: give whole class numbers"),
        ([np.nan], 3, DataError, "label nan"),
        ([np.inf], 3, DataError, "label inf"),
        (["cat"], None, DataError, "dtype <U3"),
        ([], None, DataError, "no label"),
        ([0], 0, ArgumentError, "num_classes=0"),
        ([0], 2.5, ArgumentError, r"num_classes=2\.5"),
    ],
)
def test_to_categorical_refuses_what_is_not_a_class_number(x, num_classes, error, words):
    with pytest.raises(error, match=words):
        utils.to_categorical(x, num_classes)


def test_set_random_seed_repeats_gpucnn_python_and_numpy():
    drawn = []
    for seed in (7, 7, 8):
        utils.set_random_seed(seed)
        drawn.append((initializers.RandomNormal()((3,)).tolist(), random.random(), np.random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))


def test_seeds_beyond_numpys_range_are_accepted():
    utils.set_random_seed(2**32 + 5)
    first = np.random.random()  # noqa: NPY002
    utils.set_random_seed(np.int64(5))
    assert np.random.random() == first  # noqa: NPY002
    assert gpucnn.random.global_seed() == 5


@pytest.mark.parametrize("seed", [None, 1.5, "1", True, -1])
def test_seeds_that_are_not_integers_are_refused(seed):
    with pytest.raises(ArgumentError, match="seed"):
        utils.set_random_seed(seed)


def test_normalize_divides_by_the_norm_along_the_axis():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(utils.normalize(x), [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(utils.normalize(x, axis=0), [[1, 1], [0, 0]])
    np.testing.assert_allclose(utils.normalize(x, order=1), [[3 / 7, 4 / 7], [0, 0]])
    np.testing.assert_array_equal(x, [[3, 4], [0, 0]])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("np_utils", "utils.to_categorical"),
        ("plot_model", r"model\.summary"),
        ("get_file", "gpucnn.datasets"),
        ("Sequence", "iterable of batches"),
        ("image_dataset_from_directory", "--data FOLDER"),
    ],
)
def test_names_that_gpucnn_lacks_say_what_to_use(name, words):
    with pytest.raises(ArgumentError, match=f"utils.{name} is not in gpucnn: .*{words}"):
        getattr(utils, name)
    with pytest.raises(ImportError, match=f"utils.{name} is not in gpucnn: .*{words}"):
        exec(f"from gpucnn.utils import {name}")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        utils.nonsense  # noqa: B018
