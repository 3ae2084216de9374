"""Runs of a small model."""

import pytest

import gpucnn
from gpucnn.runs.run import Checkpoints


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(problem, small_model):
    """Train a small model in a run, from scratch or from its present state."""

    def fit(run, model=None, stop=None, save_every=None, more=(), epochs=2):
        x, y = problem
        if model is None:
            gpucnn.utils.set_random_seed(3)
            model = small_model()
        watch = [Checkpoints(run, save_every, stop), *more]
        model.fit(x, y, batch_size=20, epochs=epochs, verbose=0, validation_data=(x[:30], y[:30]), callbacks=watch)
        return model

    return fit
