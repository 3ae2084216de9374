"""A run folder from anyone: values of wrong types are one line, and text from it cannot control a terminal."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
from command import gpucnn
from model_files import parts_of, written

from gpucnn.errors import FileError, GpucnnError
from gpucnn.runs import commands
from gpucnn.runs.run import Run
from gpucnn.runs.settings import RunSettings


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("hostile")
    x = np.random.default_rng(0).integers(0, 255, (24, 28, 28)).astype(np.uint8)
    np.savez(folder / "d.npz", x_train=x, y_train=np.arange(24) % 2, x_test=x[:6], y_test=np.arange(6) % 2)
    settings = RunSettings(data=str(folder / "d.npz"), model="slides", epochs=1, batch_size=12)
    return commands.train(settings, folder / "run", pictures=False).folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of the run, to be damaged."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((28, 28), np.uint8))
    return shutil.copytree(trained, tmp_path / "run")


def damage(run, settings=None, **record):
    text = json.loads((run / "run.json").read_text())
    text |= record
    text["settings"] = {**text["settings"], **settings} if isinstance(settings, dict) else settings or text["settings"]
    (run / "run.json").write_text(json.dumps(text))


USES = {
    "evaluate": lambda run: commands.evaluate(run),
    "predict": lambda run: commands.predict(run, ["x.npy"]),
    "draw": lambda run: commands.draw(run),
    "resume": lambda run: commands.resume(run, 2),
}


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


def assert_refused(run, match, uses=USES):
    for name, use in USES.items():
        if name in uses:
            with pytest.raises(FileError, match=match) as caught:
                use(run)
            assert str(caught.value).isprintable(), name
            assert len(str(caught.value)) < len(str(run)) + 450, name


WRONG_SETTINGS = {
    "seed": [-1, 2**40, "0", 1.5, True, None, [0]],
    "epochs": [0, -3, "two", {}],
    "batch_size": [0, -128, "128", [1]],
    "learning_rate": ["x", 0, -1e-3, {"float": "nan"}, {"float": "inf"}],
    "validation_split": [-0.5, 1, "0.1", {"float": "nan"}],
    "threads": [0, "all", 1.0],
    "save_every": [0, -1, "1"],
    "model": [3, None, ["slides"]],
    "device": [3, None],
    "backend": [["numpy"], {}],
    "optimizer": [{"class_name": "os.system"}, 3],
    "algorithms": [{"matmul": 3}, ["matmul"], "matmul"],
    "classes": [[], None, "ab", [1, 2], {"0": "a"}],
    "load": ["x.py", [3], [["x.py"]], [{"name": 3}], {"x.py": "run it"}],
    "data": [3, ["d.npz"], {}],
    "image_shape": [28, [28, 28, 1]],
    "note": [3, ["a"], nested(200), nested(300)],
    "fingerprint": [3, {}],
    "dataset\x1b[31m": ["an unknown name"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_SETTINGS.items() for value in values]
)
def test_a_setting_of_another_type_or_out_of_range_is_one_line(run, name, value):
    damage(run, {name: value})
    assert_refused(run, r"run\.json is damaged or of another version: ")


@pytest.mark.parametrize(
    "record",
    [
        {"status": 3},
        {"status": ["finished"]},
        {"versions": {"numpy": 3}},
        {"versions": {"numpy": ["1", "2"]}},
        {"epochs": "1"},
        {"parameters": {}},
        {"test_accuracy": "all right"},
        {"note": {}},
        {"dataset": 3},
    ],
)
def test_a_record_of_another_type_is_one_line(run, record):
    damage(run, **record)
    assert_refused(run, r"run\.json is damaged: ")


@pytest.mark.parametrize("depth", [400, 600, 800, 950, 5000])
def test_values_of_any_depth_are_one_line_at_most(run, depth):
    text, deep = (run / "run.json").read_text(), "[" * depth + "]" * depth
    assert '"algorithms": null' in text
    (run / "run.json").write_text(text.replace('"algorithms": null', f'"algorithms": {deep}'))
    assert_refused(run, r"run\.json is damaged")
    (run / "run.json").write_text(text.replace('"status"', f'"more": {deep}, "status"', 1))
    with suppress(FileError):  # which a later version may have written
        Run.open(run)


@pytest.mark.parametrize("settings", [3, [1], "all"])
def test_settings_that_are_no_object_are_one_line(run, settings):
    damage(run, settings)
    assert_refused(run, r"run\.json is damaged: ")


def test_classes_that_are_not_those_of_the_model_are_refused(run):
    for classes in (["a"], ["a", "b", "c"]):
        damage(run, {"classes": classes})
        assert_refused(run, r"does not fit run\.json: the classes are 0, 1, and a", ("evaluate", "predict", "draw"))
        with pytest.raises(GpucnnError, match="classes"):
            commands.resume(run, 2)


def test_a_history_that_is_no_table_is_one_line(run):
    for content in (b"\xff\xfe", b"epoch,loss\n1,2,3\n", b'"' + b"x" * 200_000, b"epoch,loss\n1,\x1b[31m\n", b"\0"):
        (run / "history.csv").write_bytes(content)
        assert_refused(run, r"history\.csv is damaged: ", ("draw",))


def checkpoint_with(run, change=None, tensors=None):
    """Replace the checkpoint and the model of a run by altered ones with a right SHA-256."""
    for path in (*(run / "checkpoints").iterdir(), run / "model.safetensors"):
        document, arrays = parts_of(path)
        if change is not None:
            change(document)
        written(path, document, {**arrays, **(tensors or {})} if path.parent.name == "checkpoints" else arrays)


def training(**values):
    def change(document):
        if "training" in document:
            document["training"] |= values

    return change


WRONG_STATES = [
    {"epoch": -1},
    {"batch": -5},
    {"shuffles": -1},
    {"seed": -1},
    {"seed": 2**64},
    {"epoch": True},
    {"epochs": [-1]},
    {"epochs": ["0"]},
    {"epochs": [0.5]},
    {"loss_count": -1.0},
    {"loss_sum": "0"},
    {"metrics": [3]},
    {"metrics": [{"total": "x"}]},
    {"metrics": [{"total": {"a": 1}}]},
    {"metrics": [{"total": [[1], [2, 3]]}]},
    {"history": [3]},
    {"history": ["loss\x1b[31m"]},
]


@pytest.mark.parametrize("values", WRONG_STATES, ids=str)
def test_a_training_state_of_another_type_or_below_zero_is_one_line(run, values):
    names = [name for name in values.get("history", []) if isinstance(name, str)]
    checkpoint_with(run, training(**values), {f"history/{name}": np.ones(1) for name in names})
    assert_refused(run, r"safetensors does not describe a (model|training state): ", ("resume",))


def test_counters_below_zero_are_one_line(run):
    (checkpoint,) = (run / "checkpoints").iterdir()
    counters = [name for name, array in parts_of(checkpoint)[1].items() if array.dtype.kind == "i"]
    assert counters
    for name in counters:
        array = parts_of(checkpoint)[1][name]
        checkpoint_with(run, tensors={name: np.full_like(array, -7)})
        assert_refused(run, rf"{name} is -7, below zero", ("resume",))
        checkpoint_with(run, tensors={name: array})


def rename_layer(name):
    def change(document):
        document["architecture"]["layers"][0]["config"]["name"] = name

    return change


def rename_metric(document):
    config = {"name": "accuracy\x1b[2J\r", "dtype": None}
    document["compile"]["metrics"] = [{"kind": "Metric", "class_name": "Accuracy", "config": config}]


def rename_model(document):
    document["architecture"]["name"] = "m\nall is well"


@pytest.mark.parametrize(
    "change", [rename_layer("conv\x1b[2J"), rename_layer("conv\nall is well"), rename_metric, rename_model]
)
def test_names_that_could_control_a_terminal_are_refused(run, change):
    checkpoint_with(run, change)
    assert_refused(run, "does not describe a model: the name .* has characters that cannot be printed")
    result = gpucnn("summary", run)
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout + result.stderr


def test_text_of_a_run_is_printed_without_control_characters(run):
    hostile = "good\x1b[31m\r\x9b2J\nall is well"
    damage(run, {"classes": [hostile, "b"], "note": hostile, "dataset": hostile}, note=hostile, status=hostile)
    for document in (run / "checkpoints", run / "model.safetensors"):
        for path in document.iterdir() if document.is_dir() else [document]:
            content, tensors = parts_of(path)
            content.pop("signature", None)
            written(path, content, tensors)
    damage(run, versions={"numpy": hostile})
    for arguments in (
        ("predict", run, "x.npy"),
        ("evaluate", run),
        ("plot", run),
        ("train", "--resume", run, "--epochs", 2),
    ):
        result = gpucnn(*arguments)
        assert not {"\x1b", "\r", "\x9b"} & set(result.stdout + result.stderr), arguments
        assert not any(line.startswith("all is well") for line in (result.stdout + result.stderr).splitlines())


def test_a_run_json_that_is_right_is_still_accepted(run):
    record = Run.open(run).record
    assert RunSettings.of(Run.open(run)).classes == ["0", "1"]
    damage(run, {"learning_rate": 1, "validation_split": 0, "algorithms": {}}, seconds=3, more="of a later version")
    assert RunSettings.of(Run.open(run)).learning_rate == 1
    assert record["status"] == "finished"
