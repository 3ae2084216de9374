"""A user's folder of images is a data set, or an error says what is wrong with it."""

import numpy as np
import pytest
from data_files import write_image

from gpucnn import datasets
from gpucnn.datasets import images
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
    with pytest.raises(DataError, match=r"0\.png is 6×5 and .*9\.png is 7×5 \(H×W\): .* with --image-shape HxWxC"):
        datasets.load(data=tmp_path / "d")
    assert datasets.load(data=tmp_path / "d", shape=(4, 4, 3)).x_train.shape[1:] == (4, 4, 3)


# how a folder is divided


def test_how_a_folder_was_divided_is_said(tmp_path):
    fill(tmp_path / "d", {"a": 5, "b": 5})
    assert datasets.load(data=tmp_path / "d").split == "a fixed random fifth of each class is held out for the test"
    for part in ("train", "test"):
        fill(tmp_path / "e" / part, {"a": 2, "b": 2})
    assert datasets.load(data=tmp_path / "e").split == "train/ and test/ of the folder"
    fill(tmp_path / "e/val", {"a": 2, "b": 2})
    assert datasets.load(data=tmp_path / "e").split == "train/ and test/ of the folder, val/ for validation"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation"])
def test_val_beside_train_and_test_is_validation_data(tmp_path, name):
    for part, count in (("train", 4), ("test", 2), (name, 3)):
        fill(tmp_path / "d" / part, {"a": count, "b": count})
    dataset = datasets.load(data=tmp_path / "d")
    assert (len(dataset.x_train), len(dataset.x_test), len(dataset.x_val)) == (8, 4, 6)
    assert np.bincount(dataset.y_val).tolist() == [3, 3]
    assert dataset.warnings == []


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "Testing")])
def test_parts_are_known_by_their_usual_names(tmp_path, names):
    for part in names:
        fill(tmp_path / "d" / part, {"a": 2, "b": 2})
    assert datasets.load(data=tmp_path / "d").classes == ["a", "b"]


def test_a_class_may_be_called_like_a_part(tmp_path):
    fill(tmp_path / "d", {"plane": 5, "train": 5})
    assert datasets.load(data=tmp_path / "d").classes == ["plane", "train"]


def test_the_share_of_test_images_is_a_fifth_of_each_class_rounded_down(tmp_path):
    counts = {str(n): n for n in (2, 4, 5, 9, 10, 14, 15, 29, 30, 35)}
    fill(tmp_path / "d", counts, shape=(1, 1))
    dataset = datasets.load(data=tmp_path / "d")
    assert np.bincount(dataset.y_test).tolist() == [max(1, n // 5) for n in counts.values()]
    again = datasets.load_to_test(tmp_path / "d", share=0.2)
    np.testing.assert_array_equal(again.x, dataset.x_test)
    np.testing.assert_array_equal(again.y, dataset.y_test)


def test_all_images_of_a_folder_are_loaded_to_test_a_model(tmp_path):
    fill(tmp_path / "d", {"a": 7, "b": 3})
    images = datasets.load_to_test(tmp_path / "d")
    assert np.bincount(images.y).tolist() == [7, 3]
    assert (images.name, images.classes, images.origin) == ("d", ["a", "b"], f"all images of {tmp_path / 'd'}")
    assert len(datasets.load_to_test(tmp_path / "d", share=0.5).x) == 4


def test_of_a_folder_with_test_only_this_is_loaded_to_test_a_model(tmp_path):
    fill(tmp_path / "d/test", {"a": 4, "b": 2})
    assert len(datasets.load_to_test(tmp_path / "d").x) == 6
    fill(tmp_path / "d/train", {"a": 9, "b": 9})
    images = datasets.load_to_test(tmp_path / "d")
    assert (len(images.x), images.origin, images.warnings) == (6, f"all images of {tmp_path / 'd/test'}", [])
    fill(tmp_path / "e/train", {"a": 2, "b": 2})
    with pytest.raises(DataError, match="has train/ but no test/"):
        datasets.load_to_test(tmp_path / "e")


# images in unexpected places, and files that are no images


def test_images_in_subfolders_of_a_class_belong_to_it(tmp_path):
    fill(tmp_path / "d", {"a": 5, "a/more": 5, "a/more/deeper": 5, "b": 5})
    dataset = datasets.load(data=tmp_path / "d")
    assert np.bincount([*dataset.y_train, *dataset.y_test]).tolist() == [15, 5]
    assert dataset.warnings == []


def test_folders_are_read_through_links_and_each_once(tmp_path):
    fill(tmp_path / "elsewhere", {"a": 5})
    fill(tmp_path / "d", {"b": 5})
    (tmp_path / "d/a").symlink_to(tmp_path / "elsewhere/a", target_is_directory=True)
    (tmp_path / "d/b/again").symlink_to(tmp_path / "d/b", target_is_directory=True)
    dataset = datasets.load(data=tmp_path / "d")
    assert np.bincount([*dataset.y_train, *dataset.y_test]).tolist() == [5, 5]


def left_out(call):
    """The one warning of a call that leaves out files."""
    with pytest.warns(UserWarning, match="left out: ") as caught:
        images = call()
    assert images.warnings == [str(w.message) for w in caught]
    (message,) = images.warnings
    return message


def test_everything_that_is_left_out_is_counted_with_its_reason(tmp_path):
    fill(tmp_path / "d", {"a": 3, "b": 3, "a/.hidden": 2, "__MACOSX/a": 1})
    write_image(tmp_path / "d/stray.png", np.zeros((6, 5), np.uint8))
    for name, content in (("a/notes.txt", b""), ("b/film.mp4", b""), ("b/.DS_Store", b""), ("b/broken.bmp", b"BM")):
        (tmp_path / "d" / name).write_bytes(content)
    (tmp_path / "d/b/gone.png").symlink_to("nowhere.png")
    message = left_out(lambda: datasets.load(data=tmp_path / "d"))
    assert message.startswith(f"{tmp_path / 'd'}: 8 files were left out: ")
    assert "2 of other kinds than PNG, JPEG, WebP, BMP, TIFF or GIF, such as a/notes.txt" in message
    assert "3 hidden, such as __MACOSX/a/0.png" in message
    assert "1 beside the folders of the classes, such as stray.png" in message
    assert "1 without content (links to nothing, pipes), such as b/gone.png" in message
    assert "1 broken: " in message


def test_images_outside_of_the_parts_are_counted(tmp_path):
    for place in ("train", "test", "extra"):
        fill(tmp_path / "d" / place, {"a": 2, "b": 2})
    write_image(tmp_path / "d/train/stray.png", np.zeros((6, 5), np.uint8))
    message = left_out(lambda: datasets.load(data=tmp_path / "d"))
    assert "4 outside of train/, test/, such as extra/a/0.png" in message
    assert "1 beside the folders of the classes, such as train/stray.png" in message


def test_a_folder_to_test_a_model_counts_what_is_left_out_as_well(tmp_path):
    fill(tmp_path / "d/test", {"a": 2, "b": 2})
    (tmp_path / "d/test/a/x.txt").write_text("")
    assert "1 file was left out: 1 of other kinds" in left_out(lambda: datasets.load_to_test(tmp_path / "d"))


@pytest.mark.parametrize("shape", [None, (6, 5, 1)])
@pytest.mark.parametrize("load", [lambda d, **k: datasets.load(data=d, **k), datasets.load_to_test])
def test_a_broken_image_is_named_and_left_out_unless_strict(tmp_path, shape, load):
    fill(tmp_path / "d", {"a": 5, "b": 5})
    whole = (tmp_path / "d/a/0.png").read_bytes()
    broken = {"cut.png": whole[:-30], "empty.jpg": b"", "page.gif": b"<html>not found</html>"}
    for name, content in broken.items():
        (tmp_path / "d/b" / name).write_bytes(content)
    message = left_out(lambda: load(tmp_path / "d", shape=shape))
    assert "3 files were left out: 3 broken: " in message
    assert all(f"{tmp_path / 'd/b' / name} " in message for name in broken)
    with pytest.raises(DataError, match=r"d/b/\w+\.\w+ is (not|a damaged)"):
        load(tmp_path / "d", shape=shape, strict=True)


def test_of_many_broken_images_a_few_are_named(tmp_path):
    fill(tmp_path / "d", {"a": 3, "b": 3})
    for i in range(12):
        (tmp_path / f"d/a/x{i}.png").write_bytes(b"")
    message = left_out(lambda: datasets.load(data=tmp_path / "d"))
    assert message.count("x") < 20
    assert "12 broken: " in message
    assert message.endswith("; and 7 more")


@pytest.mark.parametrize("shape", [None, (6, 5, 1)])
def test_a_class_of_broken_images_is_an_error(tmp_path, shape):
    fill(tmp_path / "d", {"a": 3, "b": 3})
    for file in (tmp_path / "d/b").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"no training image of b can be read|b holds one image|b has no image"):
        datasets.load(data=tmp_path / "d", shape=shape)
    for file in (tmp_path / "d/a").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of .* images can be read"):
        datasets.load(data=tmp_path / "d", shape=shape)


def test_names_of_files_cannot_control_a_terminal(tmp_path):
    fill(tmp_path / "d", {"a": 2, "b": 2})
    (tmp_path / "d/a/x\x1b[2J\nall is well.txt").write_text("")
    (tmp_path / "d/a/y\x1b[2J.png").write_text("")
    message = left_out(lambda: datasets.load(data=tmp_path / "d"))
    assert message.isprintable()
    (tmp_path / "d/c\x1b[2J").mkdir()
    fill(tmp_path / "d", {"c\x1b[2J": 2})
    with pytest.raises(DataError, match=r"the name 'c\\x1b\[2J' is .*cannot be printed"):
        datasets.load(data=tmp_path / "d")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({}, "has no subfolders"),
        ({"train/a": 2}, "has train/ but no test/"),
        ({"test/a": 2}, "has test/ but no train/"),
        ({"train/a": 2, "train/b": 2, "test/a": 1, "test/c": 1}, "b, c is in only one of train/ and test/"),
        ({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1}, "train/ and val/ but no test/: rename val/ to test/"),
        ({"val/a": 2, "val/b": 2}, "has val/ but no train/ and test/"),
        (
            {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1, "val/a": 1, "val/c": 1},
            "b, c is in only one of train/",
        ),
        ({"train/a": 2, "train/b": 2, "test/a": 1, "val/a": 1, "valid/a": 1}, "has both val/ and valid/"),
        ({"train": 2, "test": 2}, "train has no subfolders: put the images of each class into a separate one"),
        ({"a": 2, "b": 0}, "b holds no PNG, JPEG"),
        ({"a": 2, "b": 1}, "b holds one image"),
        ({"only": 3}, "d has one class, the subfolder only/: two or more are needed, one for each class$"),
        (
            {"data/a": 3, "data/b": 3},
            "the subfolder data/: .* if the classes are the subfolders of .*d/data, give that",
        ),
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
        datasets.load(data=tmp_path / "d", stream=False)


def test_reading_a_folder_reports_its_progress(tmp_path):
    fill(tmp_path / "d", {"a": 250, "b": 100}, shape=(2, 2))
    seen = []
    datasets.load(data=tmp_path / "d", progress=lambda *step: seen.append(step))
    assert seen == [(f"reading {tmp_path / 'd'}", 256, 280)]


def test_a_folder_of_images_is_read_from_python_as_the_command_reads_it(tmp_path):
    fill(tmp_path / "pets", {"cat": 5, "dog": 5}, shape=(12, 10))
    pets = datasets.image_folder(str(tmp_path / "pets"), shape=(6, 5, 3))
    same = datasets.load(data=tmp_path / "pets", shape=(6, 5, 3))
    assert (pets.x_train.shape, pets.x_train.dtype, pets.classes) == ((8, 6, 5, 3), np.uint8, ["cat", "dog"])
    for part in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(pets, part), getattr(same, part))
    (tmp_path / "pets/cat/bad.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 file was left out") as caught:
        datasets.image_folder(tmp_path / "pets")
    assert caught[0].filename == __file__
    with pytest.raises(DataError, match=r"bad\.png is not a PNG"):
        datasets.image_folder(tmp_path / "pets", strict=True)


def test_what_is_no_folder_of_images_is_refused(tmp_path):
    for path in (tmp_path / "gone", tmp_path / "d.npz"):
        with pytest.raises(DataError, match=f"{path.name} is not a folder: give one with a subfolder of images"):
            datasets.image_folder(path)


def test_training_images_in_a_file_are_those_in_memory_and_are_decoded_once(tmp_path, monkeypatch):
    fill(tmp_path / "pets", {"cat": 10, "dog": 5})
    (tmp_path / "pets/cat/torn.png").write_bytes(b"\x89PNG")
    with pytest.warns(UserWarning, match="1 broken"):
        expected = datasets.load(data=tmp_path / "pets", shape=(6, 5, 1))
    read, counted = images.read, []
    monkeypatch.setattr(images, "read", lambda *arguments: counted.append(arguments) or read(*arguments))
    for files in (16, 3):  # with the broken one; and those of the test alone
        counted.clear()
        with pytest.warns(UserWarning, match="1 broken"):
            stored = datasets.load(data=tmp_path / "pets", shape=(6, 5, 1), stream=True)
        assert len(counted) == files
        assert isinstance(stored.x_train, datasets.StoredImages)
        assert np.array_equal(stored.x_train[:], expected.x_train)
        assert np.array_equal(stored.y_train, expected.y_train) and np.array_equal(stored.x_test, expected.x_test)


def test_training_images_stay_in_a_file_if_they_do_not_fit_into_the_memory(tmp_path, monkeypatch):
    fill(tmp_path / "pets", {"cat": 10, "dog": 5})
    monkeypatch.setattr(free_memory, "available", lambda: 12 * 30 * 5 - 1)
    assert isinstance(datasets.load(data=tmp_path / "pets").x_train, datasets.StoredImages)
    monkeypatch.setattr(free_memory, "available", lambda: 12 * 30 * 5)
    assert isinstance(datasets.load(data=tmp_path / "pets").x_train, np.ndarray)


def test_a_full_disk_is_an_error_before_anything_is_decoded(tmp_path, monkeypatch):
    from collections import namedtuple

    fill(tmp_path / "pets", {"cat": 10, "dog": 5})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: namedtuple("Usage", "free")(12 * 30 - 1))
    with pytest.raises(DataError, match=r"the images need 360 bytes in .*stored, and 359 bytes is free on the disk"):
        datasets.load(data=tmp_path / "pets", stream=True)
