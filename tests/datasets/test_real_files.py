"""The real files, if GPUCNN_DATA names their folder."""

import gzip
import hashlib
import io

import numpy as np
import pytest
from data_files import REAL, real

from gpucnn import datasets
from gpucnn.datasets import archive, cifar10, fashion_mnist, idx, mnist

pytestmark = pytest.mark.usefixtures("alone")


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
    for published in (mnist.SOURCE, fashion_mnist.SOURCE):
        folder = datasets.locate(published.name, REAL).path
        for stem in idx.STEMS:
            with gzip.open(folder / f"{stem}.gz") as file:
                assert hashlib.sha256(file.read()).hexdigest() == published.hashes[stem]


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
