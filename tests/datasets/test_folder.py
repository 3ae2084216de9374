"""A user's folder of images is a data set, or an error says what is wrong with it."""

import numpy as np
import pytest
from data_files import write_image

from gpucnn import datasets
from gpucnn.devices import free_memory
from gpucnn.errors import DataError

pytestmark = pytest.mark.usefixtures("alone")


def fill(folder, counts, shape=(6, 5), kind="png"):
    for number, (name, count) in enumerate(counts.items()):
        for i in range(count):
            write_image(folder / name / f"{i}.{kind}", np.full(shape, 10 * number + i, np.uint8))
    return folder


def test_folder_with_train_and_test_is_read_as_it_is(tmp_path):
    fill(tmp_path / "pets/train", {"cat": 3, "dog": 2})
    fill(tmp_path / "pets/test", {"dog": 1, "cat": 1}, kind="png")
    dataset = datasets.load(data=tmp_path / "pets")
    assert (dataset.name, dataset.classes, dataset.warnings) == ("pets", ["cat", "dog"], [])
    assert dataset.x_train.shape == (5, 6, 5, 1)
    assert sorted(zip(dataset.x_train[:, 0, 0, 0].tolist(), dataset.y_train.tolist())) == [
        (0, 0),
        (1, 0),
        (2, 0),
        (10, 1),
        (11, 1),
    ]
    assert sorted(dataset.x_test[:, 0, 0, 0].tolist()) == [0, 10]


def test_folder_without_train_and_test_is_split_alike_each_time_and_in_each_class(tmp_path):
    fill(tmp_path / "pets", {"cat": 10, "dog": 5, "eel": 2})
    dataset, again = (datasets.load(data=tmp_path / "pets") for _ in range(2))
    assert np.bincount(dataset.y_train).tolist() == [8, 4, 1]
    assert np.bincount(dataset.y_test).tolist() == [2, 1, 1]
    values = [*dataset.x_train[:, 0, 0, 0], *dataset.x_test[:, 0, 0, 0]]
    assert sorted(values) == [*range(10), *range(10, 15), 20, 21]
    np.testing.assert_array_equal(dataset.x_train, again.x_train)
    np.testing.assert_array_equal(dataset.x_test, again.x_test)


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    fill(tmp_path / "d", {"10": 2, "9": 2, "1": 2})
    assert datasets.load(data=tmp_path / "d").classes == ["1", "9", "10"]


def test_images_are_rgb_if_any_of_them_is(tmp_path):
    fill(tmp_path / "d", {"a": 2, "b": 2})
    assert datasets.load(data=tmp_path / "d").x_train.shape[3] == 1
    write_image(tmp_path / "d/b/colour.png", np.full((6, 5, 3), [1, 2, 3], np.uint8))
    assert datasets.load(data=tmp_path / "d").x_train.shape[3] == 3


def test_images_of_different_sizes_need_a_shape(tmp_path):
    fill(tmp_path / "d", {"a": 2, "b": 2})
    write_image(tmp_path / "d/b/9.png", np.zeros((7, 5), np.uint8))
    with pytest.raises(DataError, match=r"0\.png is 6×5 and .*9\.png is 7×5 \(H×W\)"):
        datasets.load(data=tmp_path / "d")
    assert datasets.load(data=tmp_path / "d", shape=(4, 4, 3)).x_train.shape[1:] == (4, 4, 3)


def test_files_that_are_not_images_are_left_out_with_one_warning(tmp_path):
    fill(tmp_path / "d", {"a": 2, "b": 2})
    for name in ("a/notes.txt", "b/old.bmp", "b/.hidden"):
        (tmp_path / "d" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 files are not PNG or JPEG images .*notes\.txt") as caught:
        dataset = datasets.load(data=tmp_path / "d")
    assert dataset.warnings == [str(caught[0].message)]


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({}, "has no subfolders"),
        ({"train/a": 2}, "has train/ but no test/"),
        ({"test/a": 2}, "has test/ but no train/"),
        ({"train/a": 2, "train/b": 2, "test/a": 1, "test/c": 1}, "b, c is in only one of train/ and test/"),
        ({"a": 2, "b": 0}, "b holds no PNG or JPEG"),
        ({"a": 2, "b": 1}, "b holds one image"),
    ],
)
def test_folders_that_are_not_a_data_set_say_why(tmp_path, folders, words):
    (tmp_path / "d").mkdir()
    for name, count in folders.items():
        (tmp_path / "d" / name).mkdir(parents=True)
        fill(tmp_path / "d", {name: count})
    with pytest.raises(DataError, match=words):
        datasets.load(data=tmp_path / "d")


def test_images_that_need_more_than_the_free_memory_are_refused(tmp_path, monkeypatch):
    fill(tmp_path / "d", {"a": 2, "b": 2})
    monkeypatch.setattr(free_memory, "available", lambda: 50)
    with pytest.raises(DataError, match=r"2 images of .* need 60 bytes, but 50 bytes is free"):
        datasets.load(data=tmp_path / "d")


def test_reading_a_folder_reports_its_progress(tmp_path):
    fill(tmp_path / "d", {"a": 250, "b": 100}, shape=(2, 2))
    seen = []
    datasets.load(data=tmp_path / "d", progress=lambda *step: seen.append(step))
    assert seen == [(f"reading {tmp_path / 'd'}", 256, 280)]
