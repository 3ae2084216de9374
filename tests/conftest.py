"""What several tests need."""

import os
import signal
import time

import numpy as np
import pytest

import gpucnn
from gpucnn import layers
from gpucnn.dispatch import choice
from gpucnn.dispatch import op as op_module

os.environ.pop("COLUMNS", None)  # which pytest-xdist sets to 80
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background; processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
pytest.register_assert_rewrite("layer_checks", "model_files")

UNTIL = float(os.environ.get("GPUCNN_TEST_UNTIL", "inf"))
"""Seconds since 1970: tests that begin later are skipped."""


PART = os.environ.get("GPUCNN_TEST_PART", "1/1")
"""Of the tests only these: 2/5 are the second, the seventh and so on."""


def pytest_collection_modifyitems(items):
    """Leave out the other parts."""
    number, count = map(int, PART.split("/"))
    items[:] = items[number - 1 :: count] if count > 1 else items


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip what begins too late, on machines with a limit on the time for all tests."""
    if time.time() > UNTIL:
        pytest.skip("the time for tests on this machine is over (GPUCNN_TEST_UNTIL)")


@pytest.fixture(autouse=True)
def _same_start():
    """Each test starts from the same random state, backend and working threads."""
    gpucnn.utils.set_random_seed(0)
    gpucnn.use("auto", device="cpu")
    yield
    gpucnn.use("auto", device="cpu")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def problem(rng):
    """A small separable problem: 96 images of 8×8 with a bright quadrant, and which of the four it is."""
    y = rng.integers(0, 4, 96)
    x = rng.uniform(0.0, 0.3, (96, 8, 8, 1)).astype(np.float32)
    for image, label in zip(x, y, strict=True):
        row, column = divmod(int(label), 2)
        image[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 0.6
    return x, y


@pytest.fixture
def small_model():
    """A factory of a small CNN with every kind of state: slots, dropout, moving statistics."""

    def make(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=("accuracy",), **settings):
        model = gpucnn.Sequential(
            [
                gpucnn.Input((8, 8, 1)),
                layers.Conv2D(4, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dropout(0.25),
                layers.Dense(4, activation="softmax"),
            ]
        )
        model.compile(optimizer, loss, metrics=list(metrics), **settings)
        return model

    return make


@pytest.fixture
def loading_on_the_emulator(monkeypatch):
    """Kernels loaded in the test are forgotten afterwards. What is imported for the first time meanwhile is
    forgotten too: import the project's own kernels of an op before."""
    registered = {name: dict(kernels) for name, kernels in op_module._kernels.items()}
    monkeypatch.setattr("gpucnn.dispatch.op._kernels", registered)
    with choice.using(device="emulator"):
        yield
