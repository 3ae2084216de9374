"""A model of the user's own is trained from a file that the user names, and from no other."""

import hashlib
import json

import numpy as np
import pytest

import gpucnn
from gpucnn.errors import ArgumentError, FileError
from gpucnn.runs import commands
from gpucnn.runs.run import Run
from gpucnn.runs.settings import RunSettings

MINE = """
from pathlib import Path

from gpucnn import Input, Sequential, layers

Path({marker!r}).touch()


def build(input_shape, classes):
    return Sequential([Input(input_shape), layers.Flatten(), layers.Dense({end}, activation={activation!r})])


def compiled(input_shape, classes):
    model = build(input_shape, classes)
    model.compile()
    return model


def nothing(input_shape, classes):
    return None


def without_arguments():
    return None
"""


@pytest.fixture
def marker(tmp_path):
    """A file that exists once the model file was executed."""
    return tmp_path / "executed"


@pytest.fixture
def write(tmp_path, marker, monkeypatch):
    """Write a model file, and a data set next to it; returns the path of the file."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 60, (24, 12, 12)).astype(np.uint8), np.arange(24) % 2
    x[y == 1, 3:9, 3:9] += 150
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    def file(end="classes", activation="softmax"):
        path = tmp_path / "elsewhere" / "mine.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(MINE.format(marker=str(marker), end=end, activation=activation))
        return path

    return file


def settings(path, function="build", **more):
    return RunSettings(data="d.npz", model=f"{path}:{function}", epochs=2, batch_size=6, **more)


def test_a_run_keeps_the_names_and_the_hash_of_the_file_and_no_path(write):
    path = write()
    run = commands.train(settings(path), "r")
    kept = json.loads((run.folder / "run.json").read_text())["settings"]
    assert (kept["model"], kept["model_sha256"]) == ("mine.py:build", hashlib.sha256(path.read_bytes()).hexdigest())
    assert str(path.parent) not in (run.folder / "run.json").read_text()
    assert run.record["model"] == "mine.py:build"
    assert {file.name for file in (run.folder / "pictures").iterdir()} == {
        "learning_curves.png", "confusion_matrix.png", "predictions.png",
    }  # fmt: skip
    assert commands.train(settings(path), pictures=False).folder.name.endswith("-d-mine.py-build")


def test_it_is_trained_with_the_defaults_of_keras_and_the_options(write):
    run = commands.train(
        settings(write(), weight_decay=0.1, schedule="cosine", learning_rate=0.01), "r", pictures=False
    )
    optimizer = gpucnn.models.load_model(run.latest_checkpoint()).optimizer
    assert (type(optimizer).__name__, optimizer.weight_decay) == ("Adam", 0.1)
    rate = optimizer.get_config()["learning_rate"]
    assert (rate["class_name"], rate["config"]["decay_steps"]) == ("CosineDecay", 8)


def test_only_training_executes_the_file(write, marker):
    run = commands.train(settings(write()), "r", pictures=False)
    marker.unlink()
    np.save("x.npy", np.zeros((12, 12), np.uint8))
    commands.evaluate(run.folder)
    commands.predict(run.folder, ["x.npy"])
    commands.draw(run.folder)
    commands.find_model(run.folder)
    gpucnn.load_run(run.folder).predict("x.npy")
    with pytest.raises(
        ArgumentError, match=r"r was trained with your model mine\.py:build: give it again with --model"
    ):
        commands.resume(run.folder, 3)
    assert not marker.exists()


def test_a_run_is_resumed_with_the_same_file_from_any_place(write, tmp_path):
    path = write()
    longer = commands.train(RunSettings(**(vars(settings(path)) | {"epochs": 3})), "longer", pictures=False)
    run = commands.train(settings(path), "r", pictures=False)
    moved = path.rename(tmp_path / "mine.py")
    resumed = commands.resume(run.folder, 3, model=f"{moved}:build", pictures=False)
    assert resumed.record["weights_sha256"] == longer.record["weights_sha256"]
    assert Run.open("r").settings["model"] == "mine.py:build"


def test_another_file_or_function_is_refused_before_it_is_executed(write, marker):
    path = write()
    run = commands.train(settings(path), "r", pictures=False)
    marker.unlink()
    with pytest.raises(ArgumentError, match=r"trained with your model mine\.py:build, not with mine\.py:compiled"):
        commands.resume(run.folder, 3, model=f"{path}:compiled")
    path.write_text(path.read_text() + "\n")
    with pytest.raises(FileError, match=r"mine\.py is not the file that r was trained with: its SHA-256 is \w+, not"):
        commands.resume(run.folder, 3, model=f"{path}:build")
    assert not marker.exists()


def test_a_run_of_the_zoo_is_not_resumed_with_a_model_file(write, marker):
    path = write()
    run = commands.train(RunSettings(dataset="digits", model="slides", epochs=1), "r", pictures=False)
    with pytest.raises(ArgumentError, match=r"r was trained with the model slides: leave out --model"):
        commands.resume(run.folder, 2, model=f"{path}:build")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("gone.py:build", FileError, r"gone\.py"),
        (
            "elsewhere/mine.py",
            ArgumentError,
            r"lacks a function: write FILE\.py:build, where build\(input_shape, classes\)",
        ),
        ("elsewhere/mine.py:", ArgumentError, "lacks a function"),
        (
            "elsewhere/mine.py:bild",
            ArgumentError,
            r"has no function 'bild', only build, compiled, nothing, without_arg",
        ),
        ("elsewhere/mine.py:compiled", ArgumentError, r"mine\.py:compiled returned a compiled model: leave compile to"),
        ("elsewhere/mine.py:nothing", ArgumentError, "returned an object of NoneType: return a Sequential"),
        ("elsewhere/mine.py:without_arguments", ArgumentError, "cannot be called with input_shape and classes"),
    ],
)
def test_what_is_no_model_is_named_before_a_run_is_made(write, tmp_path, name, error, message):
    write()
    with pytest.raises(error, match=message):
        commands.train(RunSettings(data="d.npz", model=name), "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"end": 3}, r"has outputs of \(3,\), and \(2,\) are needed"),
        ({"activation": "linear"}, "ends without activation: give dense 'softmax'"),
    ],
)
def test_a_model_that_cannot_tell_the_classes_apart_is_refused(write, tmp_path, file, message):
    with pytest.raises(ArgumentError, match=message):
        commands.train(settings(write(**file)), "r")
    assert not (tmp_path / "r").exists()


def test_layers_of_the_users_own_are_for_programs_that_have_imported_them(write):
    path = write()
    path.write_text(
        path.read_text()
        .replace("def build(", "class FlattenOfMine(layers.Flatten):\n    pass\n\n\ndef build(", 1)
        .replace("layers.Flatten(),", "FlattenOfMine(),")
    )
    with pytest.warns(
        UserWarning, match=r"never import mine\.py:build, and cannot load its FlattenOfMine: in a program"
    ):
        run = commands.train(settings(path), "r", pictures=False)
    with pytest.raises(FileError, match="unknown Layer 'FlattenOfMine'"):
        commands.evaluate(run.folder)
    own = type("FlattenOfMine", (gpucnn.layers.Flatten,), {})
    answer = gpucnn.load_run(run.folder, custom_objects={"FlattenOfMine": own}).evaluate()
    assert answer["test_loss"] == run.record["test_loss"]
