"""MNIST and Fashion-MNIST are found in every documented place, and read only if they are valid."""

import gzip

import numpy as np
import pytest
from data_files import idx_bytes, publish, save_npz, small_set, unpublished, write_idx

from gpucnn import datasets
from gpucnn.datasets import fashion_mnist, mnist
from gpucnn.errors import ArgumentError, DataError

pytestmark = pytest.mark.usefixtures("alone")


@unpublished
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_as_keras_reads_it(tmp_path, rng, packed):
    arrays = small_set(rng)
    write_idx(tmp_path / "data/mnist", arrays, packed)
    (x_train, y_train), (x_test, y_test) = mnist.load_data(data_dir=tmp_path / "data")
    for actual, expected in zip((x_train, y_train, x_test, y_test), arrays):
        np.testing.assert_array_equal(actual, expected)
        assert actual.dtype == np.uint8


@unpublished
def test_data_dir_overrides_the_variable_and_the_variable_the_caches(tmp_path, rng, monkeypatch):
    sizes = {"argument": 3, "variable": 4, "cache": 5}
    write_idx(tmp_path / "argument/mnist", small_set(rng, sizes["argument"]))
    write_idx(tmp_path / "variable/mnist", small_set(rng, sizes["variable"]))
    write_idx(datasets.user_cache() / "mnist", small_set(rng, sizes["cache"]))
    assert len(datasets.load("mnist").x_train) == sizes["cache"]
    monkeypatch.setenv("GPUCNN_DATA", str(tmp_path / "variable"))
    assert len(datasets.load("mnist").x_train) == sizes["variable"]
    assert len(datasets.load("mnist", data_dir=tmp_path / "argument").x_train) == sizes["argument"]
    assert datasets.locate("mnist").place == "GPUCNN_DATA"
    assert datasets.locate("mnist", tmp_path / "argument").place == "data_dir"


@unpublished
@pytest.mark.parametrize(
    ("name", "folder", "place"),
    [
        ("fashion_mnist", "home/.keras/datasets/fashion-mnist", "Keras' cache"),
        ("fashion_mnist", "home/data/FashionMNIST/raw", "torchvision"),
        ("mnist", "work/data/MNIST/raw", "torchvision"),
        ("mnist", "work/MNIST/raw", "torchvision"),
    ],
)
def test_folders_of_keras_and_torchvision_are_searched(alone, rng, name, folder, place):
    write_idx(alone / folder, small_set(rng), packed=False)
    assert datasets.locate(name).place == place
    assert len(datasets.load(name).x_test) == 4


@unpublished
@pytest.mark.parametrize("folder", ["fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "."])
def test_fashion_mnist_is_found_under_each_of_its_folder_names(tmp_path, rng, folder):
    write_idx(tmp_path / "data" / folder, small_set(rng))
    (x_train, _), _ = fashion_mnist.load_data(data_dir=tmp_path / "data")
    assert x_train.shape == (6, 28, 28)


def renamed(folder, layout):
    """The files of a folder, as other programs unpack them."""
    for file in sorted(folder.iterdir()):
        dotted = file.name.replace("-idx", ".idx")
        if layout == "dot":
            file.rename(folder / dotted)
        else:
            file.rename(folder / "a file")
            name = file.name if layout == "folder" else dotted
            (folder / name).mkdir()
            (folder / "a file").rename(folder / name / name)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("layout", ["dot", "folder", "folder and dot"])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_files_named_with_a_dot_or_in_a_folder_of_their_name_are_found(
    tmp_path, rng, monkeypatch, name, layout, packed
):
    arrays = small_set(rng)
    folder = write_idx(tmp_path / "data" / name, arrays, packed)
    publish(monkeypatch, {"mnist": mnist, "fashion_mnist": fashion_mnist}[name].SOURCE, folder)
    renamed(folder, layout)
    dataset = datasets.load(name, tmp_path / "data")
    np.testing.assert_array_equal(dataset.x_train[..., 0], arrays[0])
    np.testing.assert_array_equal(dataset.y_test, arrays[3])
    assert dataset.note is None
    assert all(check.ok for check in datasets.verify(name, tmp_path / "data"))


@unpublished
def test_the_npz_of_keras_is_found_in_a_folder_of_its_name(tmp_path, rng):
    arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), small_set(rng)))
    (tmp_path / "data/mnist/mnist.npz").mkdir(parents=True)
    np.savez(tmp_path / "data/mnist/mnist.npz/mnist.npz", **arrays)
    assert len(datasets.load("mnist", tmp_path / "data").x_train) == 6


@unpublished
def test_the_npz_of_keras_is_found_in_its_folder_and_where_keras_home_points(alone, rng, monkeypatch):
    arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), small_set(rng)))
    for folder in ("home/.keras/datasets", "elsewhere/datasets", "mine"):
        (alone / folder).mkdir(parents=True)
    np.savez(alone / "home/.keras/datasets/mnist.npz", **arrays)
    assert datasets.locate("mnist").place == "Keras' cache"
    assert len(datasets.load("mnist").x_train) == 6
    (alone / "home/.keras/datasets/mnist.npz").rename(alone / "elsewhere/datasets/mnist.npz")
    assert datasets.locate("mnist") is None
    monkeypatch.setenv("KERAS_HOME", str(alone / "elsewhere"))
    assert datasets.locate("mnist").form == ".npz file"
    (x_train, _), _ = mnist.load_data(alone / "elsewhere/datasets/mnist.npz")
    np.testing.assert_array_equal(x_train, arrays["x_train"])


@unpublished
def test_an_npz_of_mnist_with_floats_or_other_sizes_is_refused(tmp_path):
    for x in (np.zeros((4, 28, 28), np.float32), np.zeros((4, 27, 28), np.uint8)):
        save_npz(tmp_path / "mnist.npz", x_train=x)
        with pytest.raises(DataError, match=r"not \(N, 28, 28\) of uint8"):
            mnist.load_data(tmp_path / "mnist.npz")


def test_published_files_are_read_without_a_warning_and_others_with_one(tmp_path, rng, monkeypatch):
    folder = write_idx(tmp_path / "data/mnist", small_set(rng))
    publish(monkeypatch, mnist.SOURCE, folder)
    plain = datasets.load("mnist", tmp_path / "data")
    assert (plain.note, plain.warnings) == (None, [])
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.array([9, 9, 9, 9], np.uint8))))
    with pytest.warns(UserWarning, match=r"t10k-labels.* is not as published") as caught:
        changed = datasets.load("mnist", tmp_path / "data")
    assert len(caught) == 1
    assert "train-images" not in str(caught[0].message)
    assert changed.warnings == [str(caught[0].message)]
    assert "not comparable" in changed.note


def test_files_of_another_set_are_not_taken_for_this_one(tmp_path, rng, monkeypatch):
    publish(monkeypatch, fashion_mnist.SOURCE, write_idx(tmp_path / "data", small_set(rng)))
    monkeypatch.setenv("GPUCNN_OFFLINE", "1")
    assert datasets.locate("fashion_mnist", tmp_path / "data").published
    with pytest.raises(DataError, match="holds the files of fashion_mnist"):
        datasets.load("mnist", tmp_path / "data")


def test_folder_that_lacks_a_file_says_which(tmp_path, rng):
    folder = write_idx(tmp_path / "data/mnist", small_set(rng))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"mnist lacks t10k-labels-idx1-ubyte\.gz$"):
        datasets.load("mnist", tmp_path / "data")


def test_folder_that_does_not_exist_is_named_with_its_origin(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="data_dir='/no/such' is not a folder"):
        datasets.load("mnist", "/no/such")
    monkeypatch.setenv("GPUCNN_DATA", "/not/there")
    with pytest.raises(DataError, match="GPUCNN_DATA='/not/there' is not a folder"):
        datasets.load("mnist")


@unpublished
def test_labels_out_of_range_and_of_another_count_are_named(tmp_path, rng):
    arrays = small_set(rng)
    arrays[1][3] = 12
    write_idx(tmp_path / "data/mnist", arrays)
    with pytest.raises(DataError, match=r"y_train.*\[3\] is 12.*0 … 9"):
        datasets.load("mnist", tmp_path / "data")
    arrays[1] = np.zeros(5, np.uint8)
    write_idx(tmp_path / "data/mnist", arrays)
    with pytest.raises(DataError, match="6 images but 5 labels"):
        datasets.load("mnist", tmp_path / "data")


@pytest.mark.parametrize("name", ["fashion_mnist", "fashion-mnist", "Fashion-MNIST", "FashionMNIST"])
def test_names_are_taken_with_either_dash_and_in_any_case(name):
    assert datasets.about(name) == fashion_mnist.SOURCE.about


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ArgumentError, match="unknown data set 'mnits': did you mean 'mnist'"):
        datasets.load("mnits")
    with pytest.raises(ArgumentError, match="the data sets are digits, mnist, fashion_mnist, cifar10"):
        datasets.load("qqq")
