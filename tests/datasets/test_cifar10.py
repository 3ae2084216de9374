"""CIFAR-10 from binary files, from archives and from copies as images, decoded once."""

import errno
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from data_files import image_bytes, unpublished

from gpucnn import datasets
from gpucnn.datasets import archive, cifar10, decoded, images, source
from gpucnn.errors import DataError, FileError

pytestmark = pytest.mark.usefixtures("alone")


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
@pytest.mark.parametrize("form", ["files", "subfolder", "subfolders of 7-Zip", "archive", "archive of 7-Zip"])
def test_cifar10_is_read_from_binary_files_and_their_archive(tmp_path, rng, form):
    batches = cifar_batches(rng)
    folder = tmp_path / "data/cifar-10"
    if form.startswith("archive"):
        members = {f"cifar-10-batches-bin/{name}": batch.tobytes() for name, batch in batches.items()}
        name, mode = ("cifar-10-binary.tar.gz", "w:gz") if form == "archive" else ("cifar-10-binary.tar", "w")
        write_tar(folder / name, {"cifar-10-batches-bin/readme.html": b"<html>", **members}, mode)
    else:
        folder /= {"files": ".", "subfolder": "cifar-10-batches-bin"}.get(form, "cifar-10-binary/cifar-10-batches-bin")
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
def test_cifar10_archive_that_is_truncated_incomplete_or_hostile_is_refused(tmp_path, rng):
    path = tmp_path / "data/cifar-10-binary.tar.gz"
    members = {f"cifar-10-batches-bin/{name}": batch.tobytes() for name, batch in cifar_batches(rng).items()}
    whole = write_tar(path, members).read_bytes()
    for length in [*range(0, 60), *range(60, len(whole), 997)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"truncated or damaged|holds no"):
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
        write_pictures(folder, {**pictures, "train/cat/readme.txt": b"not an image"})
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
def test_a_damaged_cache_of_decoded_images_is_written_again(tmp_path, rng):
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
    with pytest.warns(UserWarning, match="decoded images cannot be cached"):
        assert len(datasets.load("cifar10", tmp_path / "data").x_train) == 20


@unpublished
def test_wrong_images_in_a_copy_of_cifar10_are_named(tmp_path, rng):
    path = tmp_path / "data/cifar10.tar.gz"
    small = image_bytes(np.zeros((31, 32, 3), np.uint8))
    for extra, word in (
        ({"train/cow/0.png": small}, "class 'cow'"),
        ({"train/cat/x.png": small}, "train/cat/x.png is 31×32"),
        ({"train/cat/x.png": b"<html>"}, "train/cat/x.png in .* is not a PNG, JPEG"),
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


def test_archive_member_that_is_a_link_is_skipped(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        link = tarfile.TarInfo("link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert list(archive.members(tmp_path / "a.tar", lambda name: True, 100)) == []


def test_archive_that_is_not_there_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        list(archive.members(tmp_path / "a.tar", lambda name: True, 100))


def test_decoded_images_are_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    halves = tuple(np.zeros((2, 2), np.uint8) for _ in range(4))

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    _, warnings = decoded.once("k", lambda: halves)
    assert "the disk is full" in warnings[0]
    assert list((datasets.user_cache() / "decoded").iterdir()) == []
