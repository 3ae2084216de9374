"""A data set and a run for tests of the command."""

import numpy as np
import pytest
from command import gpucnn


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder and an empty cache, no network, and none of the user's variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GPUCNN_OFFLINE", "1")
    for name in ("GPUCNN_DATA", "GPUCNN_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def user_npz(tmp_path_factory):
    """An .npz file of 48 + 24 images of two classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for half, count in (("train", 48), ("test", 24)):
        y = np.arange(count) % 2
        x = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
        x[y == 1, 8:20, 8:20] += 150
        arrays |= {f"x_{half}": x, f"y_{half}": y}
    path = tmp_path_factory.mktemp("user_npz") / "squares.npz"
    np.savez(path, **arrays, classes=np.array(["empty", "full"]))
    return path


@pytest.fixture(scope="module")
def run(user_npz, tmp_path_factory):
    """A trained run, made by the command, with its pictures."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    result = gpucnn(
        "train", "--data", user_npz, "--model", "slides", "--epochs", 2, "--batch-size", 16, "--out", folder
    )
    assert result.exit_code == 0, result.stderr
    return folder
