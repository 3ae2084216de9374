"""A run remembers which kernel files it was trained with, but only the user decides what is executed."""

import hashlib
import json

import numpy as np
import pytest

from gpucnn.dispatch import choice, op
from gpucnn.errors import ArgumentError, FileError
from gpucnn.runs import commands
from gpucnn.runs.run import Run
from gpucnn.runs.settings import RunSettings

OWN = """
from pathlib import Path

from gpucnn import kernel
from gpucnn.ops.matmul import matmul

Path({marker!r}).touch()


@kernel(matmul, "own", "numpy")
def launch(y, a, b, **params):
    y[...] = matmul.reference(a, b, **params)
"""


@pytest.fixture(autouse=True)
def _without_own_kernels(tmp_path, monkeypatch):
    """Each test starts in an empty folder, and its kernels are forgotten at its end."""
    monkeypatch.chdir(tmp_path)
    before = {name: dict(kernels) for name, kernels in op._kernels.items()}
    yield
    op._kernels.clear()
    op._kernels.update(before)
    choice.changed()


@pytest.fixture
def forget():
    """Forget the kernels that were loaded, as a new process would."""

    def run():
        for name in [name for name in op._kernels.get("matmul", {}) if name.startswith("own_")]:
            del op._kernels["matmul"][name]
        choice.changed()

    return run


@pytest.fixture
def settings(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (24, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(24) % 2, x_test=x[:6], y_test=np.arange(6) % 2)
    return RunSettings(
        data="d.npz", model="slides", epochs=1, batch_size=12, backend="numpy", algorithms={"matmul": "own"}
    )


@pytest.fixture
def marker(tmp_path):
    """A file that exists once the kernel file was executed."""
    return tmp_path / "executed"


@pytest.fixture
def own(tmp_path, marker):
    path = tmp_path / "elsewhere" / "own.py"
    path.parent.mkdir()
    path.write_text(OWN.format(marker=str(marker)))
    return path


@pytest.fixture
def run(settings, own, marker, forget):
    """A run that was trained with a kernel of the user, seen from a new process."""
    run = commands.train(settings, "r", load=[own], pictures=False)
    assert marker.exists()
    marker.unlink()
    forget()
    return run


def test_a_run_keeps_the_name_and_the_hash_of_a_kernel_file_and_no_path(run, own):
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    assert json.loads((run.folder / "run.json").read_text())["settings"]["load"] == [
        {"name": "own.py", "sha256": digest}
    ]


def test_no_command_but_training_executes_a_file_that_a_run_names(run, marker):
    """Neither the file that the run was trained with, nor one that a sender put into its place."""
    (run.folder / "x.py").write_text(f"open({str(marker)!r}, 'w')")
    for entry in (None, [f"{run.folder}/x.py"], [{"name": f"{run.folder}/x.py"}]):
        record = json.loads((run.folder / "run.json").read_text())
        if entry is not None:
            record["settings"]["load"] = entry
            (run.folder / "run.json").write_text(json.dumps(record))
        for use in (commands.evaluate, commands.draw, lambda folder: commands.predict(folder, ["x.npy"])):
            np.save("x.npy", np.zeros((28, 28), np.uint8))
            with pytest.warns(UserWarning, match=r"matmul was computed with your algorithm 'own', .* is not loaded"):
                use(run.folder)
        with pytest.raises(ArgumentError, match=r"was trained with your kernels in .*: give .* again with --load"):
            commands.resume(run.folder, 2)
        assert not marker.exists()


def test_a_run_is_resumed_with_the_same_kernel_file_from_any_place(run, own, tmp_path, settings, forget):
    moved = tmp_path / "moved" / "own.py"
    moved.parent.mkdir()
    own.rename(moved)
    resumed = commands.resume(run.folder, 2, load=[moved], pictures=False)
    forget()
    unbroken = commands.train(RunSettings(**(vars(settings) | {"epochs": 2})), "unbroken", load=[moved], pictures=False)
    assert resumed.record["weights_sha256"] == unbroken.record["weights_sha256"]
    assert Run.open(run.folder).settings["load"] == run.settings["load"]


def test_another_kernel_file_is_refused_before_it_is_executed(run, own, tmp_path, marker):
    own.write_text(own.read_text() + "\n")
    with pytest.raises(
        FileError, match=r"own\.py is not the file that r was trained with: its SHA-256 is \w+, not \w+"
    ):
        commands.resume(run.folder, 2, load=[own])
    other = tmp_path / "other.py"
    own.rename(other)
    with pytest.raises(ArgumentError, match=r"r was trained with your kernels in own\.py: give .* again with --load"):
        commands.resume(run.folder, 2, load=[other])
    assert not marker.exists()


def test_a_kernel_file_that_a_run_was_trained_without_is_refused(settings, own, marker):
    run = commands.train(RunSettings(**(vars(settings) | {"algorithms": None})), "plain", pictures=False)
    with pytest.raises(ArgumentError, match=r"plain was trained without own\.py: leave out --load"):
        commands.resume(run.folder, 2, load=[own])
    assert not marker.exists()


def test_a_run_of_an_earlier_version_kept_a_path_and_asks_for_its_name(run, own):
    record = json.loads((run.folder / "run.json").read_text())
    record["settings"]["load"] = ["some/where/own.py"]
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArgumentError, match=r"was trained with your kernels in own\.py"):
        commands.resume(run.folder, 2)
    with pytest.warns(UserWarning, match=r"own\.py.*an earlier version .* kept no SHA-256"):
        resumed = commands.resume(run.folder, 2, load=[own], pictures=False)
    assert resumed.record["epochs"] == 2
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    assert Run.open(run.folder).settings["load"] == [{"name": "own.py", "sha256": digest}]
