"""What is downloaded, what forbids it, and how files are verified."""

import errno
import functools
import gzip
import hashlib
import http.server
import os
import re
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
from data_files import idx_bytes, publish, small_set, write_idx

from gpucnn import datasets
from gpucnn.datasets import download, fashion_mnist, mnist, source
from gpucnn.errors import DataError, FileError

pytestmark = pytest.mark.usefixtures("alone")


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
    for declared in source.declared():
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in declared.mirrors)
        assert all(re.fullmatch("[0-9a-f]{64}", declared.hashes[name]) for name in declared.files)
        assert len(set(declared.hashes.values())) == len(declared.hashes)
    assert {declared.name for declared in source.declared()} == set(datasets.names())


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(tmp_path, rng, monkeypatch):
    """A small MNIST with two mirrors on this machine, the first of which is empty."""
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
    _, published = mirror
    seen = []
    dataset = datasets.published.load(published, progress=lambda *step: seen.append(step))
    assert len(dataset.x_train) == 6
    assert dataset.warnings == []
    assert sorted(file.name for file in (datasets.user_cache() / "mnist").iterdir()) == sorted(published.files)
    size = (datasets.user_cache() / "mnist" / published.files[0]).stat().st_size
    assert (published.files[0], size, size) in seen


def test_a_download_with_another_hash_is_not_kept(mirror):
    folder, published = mirror
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(6, np.uint8))))
    with pytest.raises(DataError, match=r"full/train-labels-idx1-ubyte\.gz: .*hash"):
        download.fetch(published)
    assert [file.name for file in (datasets.user_cache() / "mnist").iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_fetch_into_a_folder_downloads_only_what_is_missing_or_damaged(mirror, tmp_path, monkeypatch):
    folder, published = mirror
    found = download.fetch(published, tmp_path / "new")
    assert found.published
    assert found.path == tmp_path / "new/mnist"
    damaged = tmp_path / "new/mnist/t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(b"cut")
    urls = []
    retrieve = download._retrieve
    monkeypatch.setattr(download, "_retrieve", lambda url, *rest: (urls.append(url), retrieve(url, *rest)))
    assert download.fetch(published, tmp_path / "new").published
    assert {url.rpartition("/")[2] for url in urls} == {damaged.name}
    assert damaged.read_bytes() == (folder / damaged.name).read_bytes()


def test_a_full_disk_and_a_forbidden_folder_are_file_errors_with_the_path(mirror, tmp_path, monkeypatch):
    _, published = mirror

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    import pooch

    monkeypatch.setattr(pooch, "retrieve", full)
    with pytest.raises(FileError, match=r"new/mnist/train-images-idx3-ubyte\.gz: the disk is full"):
        download.fetch(published, tmp_path / "new")
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(FileError, match="new/mnist: permission denied"):
        download.fetch(published, tmp_path / "new")


def test_fetching_the_embedded_set_finds_it_in_the_package():
    assert datasets.fetch("digits").place == "package"


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
