"""Models that tests of files write."""

import pytest

from gpucnn import Input, Sequential, layers


@pytest.fixture
def trained(problem, small_model):
    """A small model with traces of training in all of its state."""
    model = small_model()
    model.fit(*problem, batch_size=20, epochs=2, verbose=0)
    return model


@pytest.fixture
def tiny(tmp_path):
    """The path of a file of the smallest model, for tests that try something on each byte."""
    model = Sequential([Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    path = tmp_path / "tiny.safetensors"
    model.save(path)
    return path
