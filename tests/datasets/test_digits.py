"""The embedded digits: what they hold, how they are split, and who made them."""

from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from gpucnn import datasets
from gpucnn.datasets import digits, npz
from gpucnn.errors import ArgumentError, DataError

pytestmark = pytest.mark.usefixtures("alone")


def test_digits_have_the_shapes_and_types_of_keras_data():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == (
        (1437, 28, 28),
        (1437,),
        (360, 28, 28),
        (360,),
    )
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    counts = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]  # 0 … 16 times 255 / 16
    assert np.unique(x_train).tolist() == counts


def test_digits_of_28_pixels_are_those_of_8_three_times_as_large_with_a_border():
    (small, labels), _ = digits.load_data(size=8)
    (large, same), _ = digits.load_data(size=28)
    np.testing.assert_array_equal(labels, same)
    for row in range(3):
        for column in range(3):
            np.testing.assert_array_equal(large[:, 2 + row : 26 : 3, 2 + column : 26 : 3], small)
    assert not large[:, :2].any()
    assert not large[:, 26:].any()
    assert not large[:, :, :2].any()
    assert not large[:, :, 26:].any()


def test_digits_are_split_into_halves_that_share_no_image_and_hold_each_class_alike():
    stored = npz.read(Path(digits.__file__).parent / "data/digits.npz", ("train", "test", "labels"))
    assert sorted([*stored["train"], *stored["test"]]) == list(range(1797))
    counts = np.bincount(stored["labels"][stored["test"]], minlength=10)
    share = np.bincount(stored["labels"], minlength=10) * 360 / 1797
    assert (abs(counts - share) < 1).all()


def test_digits_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, y = sklearn.load_digits(return_X_y=True)
    stored = npz.read(Path(digits.__file__).parent / "data/digits.npz", ("images", "labels", "test"))
    np.testing.assert_array_equal(stored["images"].reshape(-1, 64), x)
    np.testing.assert_array_equal(stored["labels"], y)
    _, (x_test, _) = digits.load_data(size=8)
    np.testing.assert_array_equal(x_test.reshape(-1, 64), np.floor(x[stored["test"]] * 255 / 16 + 0.5))


def test_digits_carry_the_note_that_they_are_not_mnist():
    assert datasets.load().note == "digits: not comparable with MNIST"
    assert datasets.load("digits").x_train.shape == (1437, 28, 28, 1)


def test_digits_of_another_size_are_refused_by_name():
    with pytest.raises(ArgumentError, match="size=16"):
        digits.load_data(size=16)


def test_damaged_digits_are_detected(monkeypatch):
    monkeypatch.setitem(digits.SOURCE.hashes, "digits.npz", "0" * 64)
    with pytest.raises(DataError, match=r"digits\.npz is damaged"):
        digits.load_data()


def test_notice_names_licence_and_authors_of_the_digits():
    notice = (ROOT / "NOTICE").read_text()
    assert all(word in notice for word in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49"))
