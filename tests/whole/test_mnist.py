"""Training on a small part of real MNIST, if GPUCNN_DATA has it."""

import os
from pathlib import Path

import numpy as np
import pytest

import gpucnn
from gpucnn.datasets import mnist
from gpucnn.runs import zoo

pytestmark = pytest.mark.skipif(
    not (Path(os.environ.get("GPUCNN_DATA") or "/nowhere") / "mnist").is_dir(),
    reason="GPUCNN_DATA does not name a folder with MNIST",
)


@pytest.fixture(scope="module")
def part():
    """6,000 training and 2,000 test images."""
    (x, y), (x_test, y_test) = mnist.load_data()
    assert x.shape == (60_000, 28, 28)
    return x[:6000, ..., None] / np.float32(255), y[:6000], x_test[:2000, ..., None] / np.float32(255), y_test[:2000]


@pytest.mark.parametrize("name", ["mnist_convnet", "keras-intro"])
def test_two_epochs_on_a_tenth_of_mnist_reach_what_the_model_can(name, part):
    x, y, x_test, y_test = part
    entry = zoo.find(name)
    model = entry.build()
    model.compile(entry.training.make_optimizer(), entry.training.loss, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    assert model.evaluate(x_test, y_test, verbose=0)[1] >= 0.92
    assert history.history["loss"][1] < history.history["loss"][0]


def test_one_seed_gives_the_same_bits_on_real_images(part):
    from gpucnn.models.saving import weights_sha256

    x, y, *_ = part
    ends = set()
    for _ in range(2):
        gpucnn.utils.set_random_seed(7)
        model = zoo.find("slides").build()
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x[:1000], y[:1000], batch_size=100, verbose=0)
        ends.add(weights_sha256(model))
    assert len(ends) == 1
