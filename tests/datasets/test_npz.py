"""A user's .npz file is a data set, or an error says what is wrong with it."""

import contextlib
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from data_files import save_npz

from gpucnn import datasets
from gpucnn.datasets import idx, npz
from gpucnn.devices import free_memory
from gpucnn.errors import ArgumentError, DataError, FileError

pytestmark = pytest.mark.usefixtures("alone")


def test_npz_of_a_user_becomes_a_data_set(tmp_path, rng):
    path = save_npz(
        tmp_path / "mine.npz", x_train=rng.random((4, 5, 5)), x_test=rng.random((2, 5, 5)), y_test=np.array([[0], [2]])
    )
    dataset = datasets.load(data=path)
    assert (dataset.name, dataset.classes, dataset.note, dataset.path) == ("mine", ["0", "1", "2"], None, path)
    assert (dataset.x_train.shape, dataset.x_train.dtype) == ((4, 5, 5, 1), np.float32)
    assert (dataset.y_test.tolist(), dataset.y_test.dtype) == ([0, 2], np.int64)


def test_npz_may_name_its_classes(tmp_path):
    path = save_npz(tmp_path / "mine.npz", classes=np.array(["ant", "bee", "cat", "dog"]))
    assert datasets.load(data=path).classes == ["ant", "bee", "cat", "dog"]
    with pytest.raises(DataError, match="classes is int64"):
        datasets.load(data=save_npz(tmp_path / "mine.npz", classes=np.arange(3)))


def test_npz_may_hold_validation_images(tmp_path):
    val = {"x_val": np.full((3, 5, 5, 1), 7, np.uint8), "y_val": np.array([0, 1, 2])}
    dataset = datasets.load(data=save_npz(tmp_path / "mine.npz", **val))
    np.testing.assert_array_equal(dataset.x_val, val["x_val"])
    assert dataset.y_val.tolist() == [0, 1, 2]
    assert dataset.split == "x_train and x_test of the file, x_val for validation"
    with pytest.raises(DataError, match=r"y_val.* is missing: images and labels belong together"):
        datasets.load(data=save_npz(tmp_path / "mine.npz", **(val | {"y_val": None})))


def test_arrays_of_other_names_are_named(tmp_path):
    path = save_npz(tmp_path / "mine.npz", x_valid=np.zeros(3), extra=np.zeros(3))
    with pytest.warns(UserWarning, match=r"mine\.npz: the arrays x_valid, extra are not used") as caught:
        dataset = datasets.load(data=path)
    assert dataset.warnings == [str(w.message) for w in caught]


def test_a_model_is_tested_on_the_test_images_of_an_npz_without_training_images(tmp_path):
    path = save_npz(tmp_path / "mine.npz", x_train=None, y_train=None, classes=np.array(["a", "b", "c"]))
    images = datasets.load_to_test(path)
    assert (len(images.x), images.y.tolist(), images.classes) == (2, [0, 2], ["a", "b", "c"])
    assert images.origin == f"x_test of {path}"
    with pytest.raises(ArgumentError, match=r"a share of 0\.5 goes with a folder"):
        datasets.load_to_test(path, share=0.5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (
            {"x_train": np.zeros((4, 3, 32, 32), np.uint8)},
            r"\(4, 3, 32, 32\): the channels come first.*np\.moveaxis\(x, 1, -1\)",
        ),
        ({"x_train": np.zeros((4, 1, 5, 5), np.float32)}, "the channels come first"),
        (
            {"y_train": np.zeros(4, int), "y_test": np.zeros(2, int)},
            r"mine has one class in .*mine\.npz: two or more are needed",
        ),
        ({"classes": np.array(["a", "a", "b"])}, "two classes are called 'a'"),
        ({"classes": np.array(["a", "b\x1b[2J", "c"])}, r"the name 'b\\x1b\[2J'"),
        ({"classes": np.array(["a", "", "c"])}, "the name '' is empty"),
        ({"y_test": None}, "has no array 'y_test': it needs x_train"),
        ({"x_train": np.zeros((4, 5, 5, 1), np.int32)}, "x_train.* is int32: images are uint8"),
        ({"x_train": np.full((4, 5, 5, 1), np.nan)}, "not finite"),
        ({"x_train": np.zeros((4, 25), np.uint8)}, r"shape \(4, 25\)"),
        ({"x_train": np.zeros((0, 5, 5, 1), np.uint8)}, r"shape \(0, 5, 5, 1\)"),
        ({"x_train": np.zeros((3, 5, 5, 1), np.uint8)}, "3 images but 4 labels"),
        (
            {"x_test": np.zeros((2, 6, 5, 1), np.uint8)},
            r"training images are \(5, 5, 1\) and the test images \(6, 5, 1\)",
        ),
        ({"y_train": np.array([0, 1, -2, 1])}, r"\[2\] is -2"),
        ({"y_train": np.array([0, 1, 10**9, 1])}, "a label is 1000000000, but there are 6 images"),
        ({"y_train": np.array([0.0, 1.0, 2.0, 1.0])}, r"float64: class numbers are integers"),
        ({"y_train": np.eye(4, dtype=np.uint8)}, r"np\.argmax"),
        ({"y_train": np.array(["a", "b", "c", "d"])}, "class numbers are integers"),
        ({"y_train": np.array([{}, {}, {}, {}])}, "holds Python objects"),
        ({"y_train": np.zeros(4, [("a", "i4")])}, "holds Python objects or records"),
    ],
)
def test_npz_that_is_not_a_data_set_says_what_is_wrong(tmp_path, changes, word):
    with pytest.raises(DataError, match=word):
        datasets.load(data=save_npz(tmp_path / "mine.npz", **changes))


def test_npz_cut_at_any_length_is_an_error(tmp_path):
    path = save_npz(tmp_path / "mine.npz")
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"mine\.npz"):
            datasets.load(data=path)


def test_npz_with_any_byte_changed_is_an_error_or_the_same_data(tmp_path):
    path = save_npz(tmp_path / "mine.npz")
    whole = path.read_bytes()
    expected = datasets.load(data=path)
    for position in range(0, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :])
        with contextlib.suppress(DataError, FileError):
            dataset = datasets.load(data=path)
            np.testing.assert_array_equal(dataset.x_train, expected.x_train)
            np.testing.assert_array_equal(dataset.y_test, expected.y_test)


def test_npz_that_unpacks_to_more_than_the_free_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **{name: np.zeros(10**6, np.uint8) for name in idx.ARRAYS})
    monkeypatch.setattr(free_memory, "available", lambda: 3 * 10**6)
    monkeypatch.setattr(np, "frombuffer", None)
    with pytest.raises(DataError, match=r"bomb\.npz unpacks to 4\.0 MB but 3\.0 MB is free"):
        datasets.load(data=path, stream=False)


def bomb(path, size=40 << 20):
    """An .npz file that is packed a thousand times."""
    np.savez_compressed(path, **{name: np.zeros((size // 100, 5, 5), np.uint8) for name in idx.ARRAYS})
    return path


def test_an_npz_that_is_packed_more_than_100_times_is_refused_before_it_is_read(tmp_path):
    path = bomb(tmp_path / "bomb.npz")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"would unpack to .* MB, more than 100 times as much.* np\.savez"):
        datasets.load(data=path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_small_npz_may_be_packed_as_much_as_it_likes(tmp_path):
    path = tmp_path / "flat.npz"
    arrays = {"x_train": np.zeros((20_000, 5, 5), np.uint8), "x_test": np.zeros((100, 5, 5), np.uint8)}
    np.savez_compressed(path, **arrays, y_train=np.arange(20_000) // 10_000, y_test=np.arange(100) % 2)
    assert len(datasets.load(data=path).x_train) == 20_000


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reading_an_npz_takes_no_more_memory_than_its_arrays(tmp_path, rng, save):
    path, x = tmp_path / "large.npz", rng.integers(0, 255, (8 << 20, 1)).astype(np.uint8)
    save(path, x=x)
    tracemalloc.start()
    array = npz.read(path, ["x"])["x"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(array, x)
    assert peak < 1.75 * x.nbytes


def npy(header):
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }"), "header promises"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -9), }") + bytes(9), "not an intact"),
        (npy("{'descr': '|V0', 'fortran_order': False, 'shape': (7,), }"), "objects or records"),
        (npy("{'descr': '|u1'}"), "not an intact"),
        (npy("(" * 5000), "not an intact"),
        (npy("__import__('os').system('false')"), "not an intact"),
        (b"\x93NUMPY\x03\x00" + bytes(50), r"version \(3, 0\)"),
        (b"cos\nsystem\n(S'false'\ntR.", "not an intact"),
        (b"", "not an intact"),
    ],
)
def test_array_with_a_lying_or_hostile_header_is_refused(tmp_path, content, word):
    path = tmp_path / "mine.npz"
    save_npz(path, x_train=None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x_train.npy", content)
    with pytest.raises(DataError, match=word):
        datasets.load(data=path)
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=word):
        npz.read_array(tmp_path / "x.npy")


def test_two_arrays_of_one_name_are_refused(tmp_path):
    path = save_npz(tmp_path / "mine.npz")
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("y_test.npy", b"")
    with pytest.raises(DataError, match="two arrays of one name"):
        datasets.load(data=path)


def test_npz_reads_columns_first_and_big_endian_arrays(tmp_path, rng):
    array = np.asfortranarray(rng.integers(0, 9, (3, 4)).astype(">i4"))
    np.savez(tmp_path / "a.npz", a=array)
    read = npz.read(tmp_path / "a.npz", ["a"])["a"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype("i4").newbyteorder("=")
    assert read.flags.c_contiguous
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(npz.read_array(tmp_path / "a.npy"), array)


def test_data_that_are_neither_folder_nor_npz_are_refused_with_what_is_required(tmp_path):
    (tmp_path / "x.csv").write_text("1,2")
    for path in (tmp_path / "x.csv", tmp_path / "none"):
        with pytest.raises(DataError, match="neither a folder nor an"):
            datasets.load(data=path)
    with pytest.raises(FileError, match=r"none\.npz: there is no such file"):
        datasets.load(data=tmp_path / "none.npz")
    with pytest.raises(FileError, match=r"none\.npy: there is no such file"):
        npz.read_array(tmp_path / "none.npy")
    with pytest.raises(ArgumentError, match="both the data set 'mnist' and data="):
        datasets.load("mnist", data=tmp_path / "x.npz")
