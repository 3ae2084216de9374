"""Data sets: found where they may be, read only when they are what they should be, and never fetched in silence."""

import contextlib
import errno
import functools
import gzip
import hashlib
import http.server
import io
import os
import re
import socket
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from gpucnn import datasets, images, memory, npz
from gpucnn.datasets import archive, cifar10, decoded, digits, download, fashion_mnist, idx, mnist, source
from gpucnn.errors import ArgumentError, DataError, FileError

REAL = os.environ.get("GPUCNN_DATA")
real = pytest.mark.skipif(not REAL, reason="GPUCNN_DATA names no folder with the real files")
unpublished = pytest.mark.filterwarnings("ignore:.*not as published")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty home, no variables, and no network."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    home = tmp_path / "home"
    work = tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    for name in ("GPUCNN_DATA", "GPUCNN_OFFLINE", "KERAS_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(work)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path


def idx_bytes(array, type_code=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, type_code, array.ndim, *array.shape) + array.tobytes()


def small_set(rng, train=6, test=4):
    return [
        rng.integers(0, 256, (train, 28, 28)).astype(np.uint8),
        (np.arange(train) % 10).astype(np.uint8),
        rng.integers(0, 256, (test, 28, 28)).astype(np.uint8),
        (np.arange(test) % 10).astype(np.uint8),
    ]


def write_idx(folder, arrays, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, array in zip(idx.STEMS, arrays):
        content = idx_bytes(array)
        (folder / f"{stem}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return folder


def publish(monkeypatch, known, folder):
    """Take the hashes of the files in a folder for the published ones."""
    for file in folder.iterdir():
        monkeypatch.setitem(known.hashes, file.name, hashlib.sha256(file.read_bytes()).hexdigest())


def save_npz(path, **changes):
    arrays = {
        "x_train": np.zeros((4, 5, 5, 1), np.uint8),
        "y_train": np.array([0, 1, 2, 1]),
        "x_test": np.ones((2, 5, 5, 1), np.uint8),
        "y_test": np.array([0, 2]),
    }
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def write_image(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, quality=95)
    return path


def image_bytes(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


# digits


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


def test_damaged_digits_are_noticed(monkeypatch):
    monkeypatch.setitem(digits.SOURCE.hashes, "digits.npz", "0" * 64)
    with pytest.raises(DataError, match=r"digits\.npz is damaged"):
        digits.load_data()


def test_notice_names_licence_and_authors_of_the_digits():
    notice = (ROOT / "NOTICE").read_text()
    assert all(word in notice for word in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49"))


# IDX


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_gives_back_the_array_that_was_written(tmp_path, rng, suffix):
    array = rng.integers(0, 256, (3, 4, 5)).astype(np.uint8)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(array)) if suffix else idx_bytes(array))
    read = idx.read(path, 3)
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_cut_at_any_length_is_an_error(tmp_path, rng, suffix):
    content = idx_bytes(rng.integers(0, 256, (2, 3, 3)).astype(np.uint8))
    content = gzip.compress(content) if suffix else content
    path = tmp_path / f"x{suffix}"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=re.escape(str(path))):
            idx.read(path, 3)


def test_packed_idx_with_any_byte_changed_is_an_error_or_the_same_array(tmp_path, rng):
    array = rng.integers(0, 256, (2, 3, 3)).astype(np.uint8)
    content = gzip.compress(idx_bytes(array))
    path = tmp_path / "x.gz"
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x41]) + content[position + 1 :])
        with contextlib.suppress(DataError):
            np.testing.assert_array_equal(idx.read(path, 3), array)


@pytest.mark.parametrize(
    ("shape", "word"),
    [((3, 3, 3), "less"), ((1, 3, 3), "more"), ((2**31, 2**16, 2**16), "is free"), ((0, 3, 3), "more")],
)
def test_idx_header_that_lies_about_the_extents_is_an_error(tmp_path, shape, word):
    path = tmp_path / "x"
    path.write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, *shape) + bytes(18))
    with pytest.raises(DataError, match=word):
        idx.read(path, 3)


def test_idx_of_another_type_or_rank_or_format_is_named(tmp_path):
    path = tmp_path / "x"
    for content, word in (
        (idx_bytes(np.zeros(4, ">f4"), 0x0D), "type 0x0d"),
        (idx_bytes(np.zeros(4, np.uint8)), "1 axes where 3 are expected"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (b"", "begins with nothing"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=word):
            idx.read(path, 3)


def test_idx_file_that_is_not_there_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        idx.read(tmp_path / "x", 1)


# where MNIST and Fashion-MNIST are found


@unpublished
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_as_keras_reads_it(tmp_path, rng, packed):
    arrays = small_set(rng)
    write_idx(tmp_path / "data/mnist", arrays, packed)
    (x_train, y_train), (x_test, y_test) = mnist.load_data(data_dir=tmp_path / "data")
    for got, expected in zip((x_train, y_train, x_test, y_test), arrays):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == np.uint8


@unpublished
def test_data_dir_wins_over_the_variable_and_the_variable_over_the_caches(tmp_path, rng, monkeypatch):
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
def test_folders_of_keras_and_torchvision_are_looked_in(alone, rng, name, folder, place):
    write_idx(alone / folder, small_set(rng), packed=False)
    assert datasets.locate(name).place == place
    assert len(datasets.load(name).x_test) == 4


@unpublished
@pytest.mark.parametrize("folder", ["fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "."])
def test_fashion_mnist_is_found_under_each_of_its_folder_names(tmp_path, rng, folder):
    write_idx(tmp_path / "data" / folder, small_set(rng))
    (x_train, _), _ = fashion_mnist.load_data(data_dir=tmp_path / "data")
    assert x_train.shape == (6, 28, 28)


@unpublished
def test_the_npz_of_keras_is_found_in_its_folder_and_where_it_is_moved_to(alone, rng, monkeypatch):
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
    with pytest.raises(DataError, match="6 images but 5 labels for train"):
        datasets.load("mnist", tmp_path / "data")


@pytest.mark.parametrize("name", ["fashion_mnist", "fashion-mnist", "Fashion-MNIST", "FashionMNIST"])
def test_names_are_taken_with_either_dash_and_in_any_case(name):
    assert datasets.about(name) == fashion_mnist.SOURCE.about


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ArgumentError, match="unknown data set 'mnits': did you mean mnist"):
        datasets.load("mnits")
    with pytest.raises(ArgumentError, match="known are digits, mnist, fashion_mnist, cifar10"):
        datasets.load("qqq")


# nothing found, and downloads


def test_offline_opens_no_socket_and_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCNN_OFFLINE", "1")
    (tmp_path / "data").mkdir()
    for call in (datasets.load, datasets.fetch):
        with pytest.raises(DataError) as caught:
            call("fashion-mnist", tmp_path / "data")
        message = str(caught.value)
        assert "GPUCNN_OFFLINE is set" in message
        for name in fashion_mnist.SOURCE.files:
            assert f"{name}  sha256 {fashion_mnist.SOURCE.hashes[name]}" in message
    assert not any((tmp_path / "data").iterdir())


def test_error_lists_every_place_and_every_mirror(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError) as caught:
        datasets.load("mnist", tmp_path / "data")
    message = str(caught.value)
    for place in (tmp_path / "data", datasets.user_cache(), tmp_path / "home/.keras/datasets", tmp_path / "work/data"):
        assert f"{place}: nothing there" in message
    for mirror in mnist.SOURCE.mirrors:
        assert f"{mirror}train-images-idx3-ubyte.gz: " in message
    assert f"Put these files into {datasets.user_cache() / 'mnist'}" in message
    assert not (datasets.user_cache() / "mnist").exists()


def test_mirrors_are_https_and_every_file_has_a_pinned_hash():
    for known in source.known().values():
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in known.mirrors)
        assert all(re.fullmatch("[0-9a-f]{64}", known.hashes[name]) for name in known.files)
        assert len(set(known.hashes.values())) == len(known.hashes)
    assert set(source.known()) == set(datasets.names())


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(tmp_path, rng, monkeypatch):
    """A small MNIST that is published by two mirrors on this machine, of which the first has nothing."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GPUCNN_DATA", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    folder = write_idx(tmp_path / "served/full", small_set(rng))
    (tmp_path / "served/empty").mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "served"))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    hashes = {file.name: source.sha256(file) for file in folder.iterdir()}
    yield folder, replace(mnist.SOURCE, mirrors=(f"{base}/empty/", f"{base}/full/"), hashes=hashes)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_goes_to_the_next_mirror_and_is_read_without_a_warning(mirror):
    _, known = mirror
    seen = []
    dataset = datasets.published.load(known, progress=lambda *step: seen.append(step))
    assert len(dataset.x_train) == 6
    assert dataset.warnings == []
    assert sorted(file.name for file in (datasets.user_cache() / "mnist").iterdir()) == sorted(known.files)
    size = (datasets.user_cache() / "mnist" / known.files[0]).stat().st_size
    assert (known.files[0], size, size) in seen


def test_a_download_with_another_hash_is_not_kept(mirror):
    folder, known = mirror
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(6, np.uint8))))
    with pytest.raises(DataError, match=r"full/train-labels-idx1-ubyte\.gz: .*hash"):
        download.fetch(known)
    assert [file.name for file in (datasets.user_cache() / "mnist").iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_fetch_into_a_folder_loads_only_what_is_missing_or_damaged(mirror, tmp_path, monkeypatch):
    folder, known = mirror
    found = download.fetch(known, tmp_path / "new")
    assert found.published
    assert found.path == tmp_path / "new/mnist"
    damaged = tmp_path / "new/mnist/t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(b"cut")
    asked = []
    retrieve = download._retrieve
    monkeypatch.setattr(download, "_retrieve", lambda url, *rest: (asked.append(url), retrieve(url, *rest)))
    assert download.fetch(known, tmp_path / "new").published
    assert {url.rpartition("/")[2] for url in asked} == {damaged.name}
    assert damaged.read_bytes() == (folder / damaged.name).read_bytes()


def test_a_full_disk_and_a_forbidden_folder_are_file_errors_with_the_path(mirror, tmp_path, monkeypatch):
    _, known = mirror

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    import pooch

    monkeypatch.setattr(pooch, "retrieve", full)
    with pytest.raises(FileError, match=r"new/mnist/train-images-idx3-ubyte\.gz: the disk is full"):
        download.fetch(known, tmp_path / "new")
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(FileError, match="new/mnist: permission denied"):
        download.fetch(known, tmp_path / "new")


def test_fetching_the_embedded_set_finds_it_in_the_package():
    assert datasets.fetch("digits").place == "package"


# verify


def test_verify_compares_each_file_with_its_published_hash(tmp_path, rng, monkeypatch):
    folder = write_idx(tmp_path / "data/mnist", small_set(rng))
    publish(monkeypatch, mnist.SOURCE, folder)
    assert all(check.ok for check in datasets.verify("mnist", tmp_path / "data"))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"other")
    checks = {check.file: check for check in datasets.verify("mnist", tmp_path / "data")}
    wrong = checks["train-labels-idx1-ubyte.gz"]
    assert not wrong.ok
    assert wrong.expected == mnist.SOURCE.hashes[wrong.file]
    assert wrong.actual == hashlib.sha256(b"other").hexdigest()
    assert sum(check.ok for check in checks.values()) == 3


def test_verify_of_a_missing_set_names_its_files(tmp_path):
    (tmp_path / "data/mnist").mkdir(parents=True)
    checks = datasets.verify("mnist", tmp_path / "data")
    assert [(c.file, c.path, c.actual, c.ok) for c in checks] == [
        (name, None, None, False) for name in mnist.SOURCE.files
    ]
    assert checks[0].note == "not found"
    (tmp_path / "data/mnist/t10k-labels-idx1-ubyte").write_bytes(b"")
    assert "lacks train-images" in datasets.verify("mnist", tmp_path / "data")[0].note


def test_verify_of_the_embedded_set_is_true():
    assert [check.ok for check in datasets.verify("digits")] == [True]


# CIFAR-10


def cifar_batches(rng, rows=3):
    batches = {}
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        batch = rng.integers(0, 256, (rows, 3073)).astype(np.uint8)
        batch[:, 0] %= 10
        batches[name] = batch
    return batches


def write_tar(path, members, mode="w:gz"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def cifar_pictures(rng, kind="png", per_class=2):
    return {
        f"{split}/{name}/{i:04}.{kind}": image_bytes(
            rng.integers(0, 256, (32, 32, 3)).astype(np.uint8), "PNG" if kind == "png" else "JPEG"
        )
        for split in ("train", "test")
        for name in cifar10.CLASSES
        for i in range(per_class)
    }


def write_pictures(folder, pictures):
    for name, content in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@unpublished
@pytest.mark.parametrize("form", ["files", "subfolder", "archive"])
def test_cifar10_is_read_from_binary_files_and_their_archive(tmp_path, rng, form):
    batches = cifar_batches(rng)
    folder = tmp_path / "data/cifar-10"
    if form == "archive":
        members = {f"cifar-10-batches-bin/{name}": batch.tobytes() for name, batch in batches.items()}
        write_tar(folder / "cifar-10-binary.tar.gz", {"cifar-10-batches-bin/readme.html": b"<html>", **members})
    else:
        folder = folder / "cifar-10-batches-bin" if form == "subfolder" else folder
        folder.mkdir(parents=True)
        for name, batch in batches.items():
            (folder / name).write_bytes(batch.tobytes())
    (x_train, y_train), (x_test, y_test) = cifar10.load_data(data_dir=tmp_path / "data")
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == (
        (15, 32, 32, 3),
        (15, 1),
        (3, 32, 32, 3),
        (3, 1),
    )
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    row = batches["data_batch_2.bin"][1]
    assert y_train[4, 0] == row[0]
    assert x_train[4, 5, 7].tolist() == [row[1 + plane * 1024 + 5 * 32 + 7] for plane in range(3)]


@unpublished
def test_cifar10_binary_files_of_wrong_length_and_label_are_named(tmp_path, rng):
    folder = tmp_path / "data/cifar10"
    folder.mkdir(parents=True)
    batches = {name: batch.tobytes() for name, batch in cifar_batches(rng).items()}
    for content, word in (
        (batches["data_batch_3.bin"][:-1], r"data_batch_3\.bin.*\(9218 bytes read\)"),
        (b"", r"\(0 bytes read\)"),
        (bytes(3073 * 10_001), "is not up to 10,000 images"),
        (b"\x0a" + bytes(3072), r"\[6\] is 10: with 10 classes"),
    ):
        for name, batch in {**batches, "data_batch_3.bin": content}.items():
            (folder / name).write_bytes(batch)
        with pytest.raises(DataError, match=word):
            datasets.load("cifar10", tmp_path / "data")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_3\.bin"):
        datasets.load("cifar10", tmp_path / "data")


@unpublished
def test_cifar10_archive_that_is_cut_incomplete_or_hostile_is_refused(tmp_path, rng):
    path = tmp_path / "data/cifar-10-binary.tar.gz"
    members = {f"cifar-10-batches-bin/{name}": batch.tobytes() for name, batch in cifar_batches(rng).items()}
    whole = write_tar(path, members).read_bytes()
    for length in [*range(0, 60), *range(60, len(whole), 997)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut or damaged|holds no"):
            datasets.load("cifar10", tmp_path / "data")
    members.pop("cifar-10-batches-bin/data_batch_4.bin")
    write_tar(path, members)
    with pytest.raises(DataError, match=r"holds no data_batch_4\.bin"):
        datasets.load("cifar10", tmp_path / "data")
    for name in ("../evil", "/etc/passwd", "a/../../b", "a\\b", "c:/b"):
        write_tar(path, {name: b"", **members})
        with pytest.raises(DataError, match="points out of the archive"):
            datasets.load("cifar10", tmp_path / "data")
    write_tar(path, {"cifar-10-batches-bin/data_batch_4.bin": bytes(30_730_001), **members})
    with pytest.raises(DataError, match="unpacks to 30730001 bytes, more than the 30730000"):
        datasets.load("cifar10", tmp_path / "data")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "home", "work"]


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1"])
def test_pickled_cifar10_is_refused_with_the_name_of_the_binary_archive(tmp_path, monkeypatch, name):
    monkeypatch.setenv("GPUCNN_OFFLINE", "1")
    (tmp_path / "data/cifar10").mkdir(parents=True)
    (tmp_path / "data/cifar10" / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match=rf"{name} is the pickled version.*cifar-10-binary\.tar\.gz"):
        datasets.load("cifar10", tmp_path / "data")
    assert datasets.locate("cifar10", tmp_path / "data") is None
    (tmp_path / "data").rename(tmp_path / "work/data")
    with pytest.raises(DataError, match=r"cifar10 was not found:(.|\n)*pickled version(.|\n)*GPUCNN_OFFLINE"):
        datasets.load("cifar10")


@pytest.mark.parametrize("form", ["folders", "cifar10-images.tar.xz", "CIFAR_10.zip", "cifar-10.tar"])
@pytest.mark.filterwarnings("ignore:cifar10")
def test_cifar10_is_read_from_image_files_in_folders_and_archives(tmp_path, rng, form):
    pictures = cifar_pictures(rng)
    folder = tmp_path / "data/cifar10"
    if form == "folders":
        write_pictures(folder, {**pictures, "train/cat/readme.txt": b"no image"})
    elif form.endswith("zip"):
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / form, "w") as file:
            file.mkdir("train")
            for name, content in pictures.items():
                file.writestr(f"top/{name}", content)
    else:
        write_tar(folder / form, pictures, "w:xz" if form.endswith("xz") else "w")
    dataset = datasets.load("cifar10", tmp_path / "data")
    assert dataset.x_train.shape == (20, 32, 32, 3)
    assert np.bincount(dataset.y_test).tolist() == [2] * 10
    assert (np.diff(dataset.y_train) < 0).any()
    assert "image files" in dataset.note
    assert len(dataset.warnings) == 2
    expected = {(name.split("/")[1], content) for name, content in pictures.items() if name.startswith("train")}
    for x, y in zip(dataset.x_train, dataset.y_train):
        assert (dataset.classes[y], image_bytes(x)) in expected


@pytest.mark.filterwarnings("ignore:cifar10")
@pytest.mark.parametrize("form", ["folders", "archive"])
def test_images_of_cifar10_are_decoded_once_and_again_when_they_change(tmp_path, rng, monkeypatch, form):
    calls = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda *args: (calls.append(1), decode(*args))[1])

    def write(pictures):
        if form == "archive":
            write_tar(tmp_path / "data/cifar10.tar.gz", pictures)
        else:
            write_pictures(tmp_path / "data", pictures)

    pictures = cifar_pictures(rng)
    write(pictures)
    first = datasets.load("cifar10", tmp_path / "data")
    assert len(calls) == 40
    second = datasets.load("cifar10", tmp_path / "data")
    assert len(calls) == 40
    np.testing.assert_array_equal(first.x_train, second.x_train)
    np.testing.assert_array_equal(first.y_test, second.y_test)
    write({**pictures, "train/cat/9999.png": pictures["train/dog/0000.png"]})
    assert len(datasets.load("cifar10", tmp_path / "data").x_train) == 21
    assert len(calls) == 81


@pytest.mark.filterwarnings("ignore:cifar10")
def test_a_damaged_cache_of_decoded_images_is_written_anew(tmp_path, rng):
    write_tar(tmp_path / "data/cifar10.tar.gz", cifar_pictures(rng, "jpg"))
    first = datasets.load("cifar10", tmp_path / "data")
    (kept,) = (datasets.user_cache() / "decoded").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-100])
    np.testing.assert_array_equal(datasets.load("cifar10", tmp_path / "data").x_train, first.x_train)
    assert len(kept.read_bytes()) == len(whole)


@pytest.mark.filterwarnings("ignore:cifar10")
def test_a_cache_that_cannot_be_written_costs_a_warning_and_not_the_data(tmp_path, rng):
    write_tar(tmp_path / "data/cifar10.tar.gz", cifar_pictures(rng))
    datasets.user_cache().parent.mkdir(parents=True)
    datasets.user_cache().write_text("a file in the way")
    with pytest.warns(UserWarning, match="decoded images are not kept"):
        assert len(datasets.load("cifar10", tmp_path / "data").x_train) == 20


@unpublished
def test_wrong_images_in_a_copy_of_cifar10_are_named(tmp_path, rng):
    path = tmp_path / "data/cifar10.tar.gz"
    small = image_bytes(np.zeros((31, 32, 3), np.uint8))
    for extra, word in (
        ({"train/cow/0.png": small}, "class 'cow'"),
        ({"train/cat/x.png": small}, "train/cat/x.png is 31×32"),
        ({"train/cat/x.png": b"GIF89a"}, "train/cat/x.png in .* is not a PNG or JPEG"),
        ({"train/cat/x.png": bytes(2_000_000)}, "unpacks to 2000000 bytes"),
    ):
        write_tar(path, {**cifar_pictures(rng, per_class=1), **extra})
        with pytest.raises(DataError, match=word):
            datasets.load("cifar10", tmp_path / "data")
    write_tar(path, {name: content for name, content in cifar_pictures(rng).items() if name.startswith("test")})
    with pytest.raises(DataError, match="holds no images train/"):
        datasets.load("cifar10", tmp_path / "data")
    assert not (datasets.user_cache() / "decoded").exists()


@pytest.mark.filterwarnings("ignore:cifar10")
def test_decoding_reports_its_progress(tmp_path, rng):
    write_tar(tmp_path / "data/cifar10.tar", cifar_pictures(rng, per_class=26), "w")
    seen = []
    datasets.load("cifar10", tmp_path / "data", progress=lambda *step: seen.append(step))
    assert seen == [("decoding cifar10", 500, 60_000)]


def test_verify_of_image_copies_of_cifar10_says_that_none_is_published(tmp_path, rng):
    write_tar(tmp_path / "data/cifar10.tar", cifar_pictures(rng), "w")
    (check,) = datasets.verify("cifar10", tmp_path / "data")
    assert (check.expected, check.ok) == (None, False)
    assert check.actual == source.sha256(tmp_path / "data/cifar10.tar")
    assert check.note == "archive of images: not one of the published files"
    (tmp_path / "data/cifar10.tar").unlink()
    write_pictures(tmp_path / "data", cifar_pictures(rng))
    (check,) = datasets.verify("cifar10", tmp_path / "data")
    assert (check.expected, check.actual, check.ok) == (None, None, False)


@pytest.mark.parametrize("name", ["cifar-100-images.tar.gz", "cifar-10-python.tar.gz", "cifar10.txt", "other.tar.gz"])
def test_archives_of_other_things_are_not_taken_for_cifar10(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(b"")
    assert datasets.locate("cifar10", tmp_path / "data") is None


def test_archive_member_that_is_a_link_is_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        link = tarfile.TarInfo("link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert list(archive.members(tmp_path / "a.tar", lambda name: True, 100)) == []


def test_archive_that_is_not_there_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        list(archive.members(tmp_path / "a.tar", lambda name: True, 100))


# a user's .npz file


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


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"y_test": None}, "has no array 'y_test': needed are x_train"),
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
        ({"y_train": np.array([0, 1, 10**9, 1])}, "a label is 1000000000 and there are 6 images"),
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
    monkeypatch.setattr(memory, "available", lambda: 3 * 10**6)
    monkeypatch.setattr(np, "frombuffer", None)
    with pytest.raises(DataError, match=r"bomb\.npz unpacks to 4\.0 MB and 3\.0 MB is free"):
        datasets.load(data=path)


def npy(header):
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }"), "header promises"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -9), }") + bytes(9), "not a whole"),
        (npy("{'descr': '|V0', 'fortran_order': False, 'shape': (7,), }"), "not a whole"),
        (npy("{'descr': '|u1'}"), "not a whole"),
        (npy("(" * 5000), "not a whole"),
        (npy("__import__('os').system('false')"), "not a whole"),
        (b"\x93NUMPY\x03\x00" + bytes(50), r"version \(3, 0\)"),
        (b"cos\nsystem\n(S'false'\ntR.", "not a whole"),
        (b"", "not a whole"),
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


def test_data_that_is_no_folder_and_no_npz_is_refused_with_what_is_needed(tmp_path):
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


# a user's folder of images


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


def test_files_that_are_no_images_are_left_out_with_one_warning(tmp_path):
    fill(tmp_path / "d", {"a": 2, "b": 2})
    for name in ("a/notes.txt", "b/old.bmp", "b/.hidden"):
        (tmp_path / "d" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 files are no PNG or JPEG .*notes\.txt") as caught:
        dataset = datasets.load(data=tmp_path / "d")
    assert dataset.warnings == [str(caught[0].message)]


@pytest.mark.parametrize(
    ("folders", "word"),
    [
        ({}, "has no subfolders"),
        ({"train/a": 2}, "has train/ but no test/"),
        ({"test/a": 2}, "has test/ but no train/"),
        ({"train/a": 2, "train/b": 2, "test/a": 1, "test/c": 1}, "b, c is in one of train/ and test/ only"),
        ({"a": 2, "b": 0}, "b holds no PNG or JPEG"),
        ({"a": 2, "b": 1}, "b holds one image"),
    ],
)
def test_folders_in_another_order_are_named(tmp_path, folders, word):
    (tmp_path / "d").mkdir()
    for name, count in folders.items():
        (tmp_path / "d" / name).mkdir(parents=True)
        fill(tmp_path / "d", {name: count})
    with pytest.raises(DataError, match=word):
        datasets.load(data=tmp_path / "d")


def test_images_that_need_more_than_the_free_memory_are_refused(tmp_path, monkeypatch):
    fill(tmp_path / "d", {"a": 2, "b": 2})
    monkeypatch.setattr(memory, "available", lambda: 50)
    with pytest.raises(DataError, match=r"2 images of .* need 60 bytes and 50 bytes is free"):
        datasets.load(data=tmp_path / "d")


def test_reading_a_folder_reports_its_progress(tmp_path):
    fill(tmp_path / "d", {"a": 250, "b": 100}, shape=(2, 2))
    seen = []
    datasets.load(data=tmp_path / "d", progress=lambda *step: seen.append(step))
    assert seen == [(f"reading {tmp_path / 'd'}", 256, 280)]


# the real files


@real
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_files_are_as_published(name):
    assert all(check.ok for check in datasets.verify(name, REAL))
    dataset = datasets.load(name, REAL)
    assert (dataset.x_train.shape, dataset.x_test.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    if name == "fashion_mnist":
        assert np.bincount(dataset.y_train).tolist() == [6000] * 10
    else:
        assert dataset.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@real
def test_the_unpacked_real_files_have_the_pinned_hashes():
    for known in (mnist.SOURCE, fashion_mnist.SOURCE):
        folder = datasets.locate(known.name, REAL).path
        for stem in idx.STEMS:
            with gzip.open(folder / f"{stem}.gz") as file:
                assert hashlib.sha256(file.read()).hexdigest() == known.hashes[stem]


@real
def test_the_real_copy_of_cifar10_is_called_a_copy():
    found = datasets.locate("cifar10", REAL)
    if found is None or found.form != "archive of images":
        pytest.skip("GPUCNN_DATA has no archive of images of CIFAR-10")
    assert not found.published
    members = archive.members(found.files[0], lambda name: name.endswith("/0000.jpg"), 1 << 20)
    name, content = next(members)
    split, label, pixels = cifar10._decoded(name, io.BytesIO(content), found.path)
    assert (split, pixels.shape) == ("train", (32, 32, 3))
    assert cifar10.CLASSES[label] in name


def test_decoded_images_are_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    halves = tuple(np.zeros((2, 2), np.uint8) for _ in range(4))

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    _, warnings = decoded.once("k", lambda: halves)
    assert "the disk is full" in warnings[0]
    assert list((datasets.user_cache() / "decoded").iterdir()) == []
