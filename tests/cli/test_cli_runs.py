"""The list of runs, the scores by class, and a model of the user's own, as a shell sees them."""

import json
import pathlib
import shutil

import pytest
from command import FAST, gpucnn

from gpucnn.devices.emulator import driver
from gpucnn.runs import commands
from gpucnn.runs.run import Run

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def runs(run):
    """The folder runs/ with three runs: of 0.5 and 0.75 accuracy, and one that was interrupted."""
    for name, changes in {
        "a": {"test_accuracy": 0.5},
        "b": {"test_accuracy": 0.75, "epochs_trained": 1, "peak_device_bytes": 12_345_678, "peak_host_bytes": 10**9},
        "c": {"test_accuracy": None, "test_loss": None, "epochs_trained": None, "peak_host_bytes": None}
        | {"status": "interrupted"},
    }.items():
        shutil.copytree(run, f"runs/{name}")
        path = pathlib.Path(f"runs/{name}/run.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    pathlib.Path("runs/no_run").mkdir()


def test_runs_are_listed_with_the_best_first(runs):
    lines = gpucnn("runs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "runs/b", "runs/a", "runs/c"]
    assert lines[1].split()[1:5] == ["squares", "slides", "cpu", "75.00"]
    assert lines[1].endswith("1 of 2   12.3 MB GPU, 1.0 GB host   finished")
    assert lines[3].split()[4:] == ["–", "–", "–", "of", "2", "–", "interrupted"]


def test_a_run_on_an_emulated_gpu_says_so_in_its_record_and_in_the_list(monkeypatch):
    monkeypatch.setattr(driver, "running", lambda: True)
    settings = {"dataset": "squares", "model": "slides", "device": "gpu:0", "epochs": 2}
    run = Run.create("runs/emulated", settings)
    assert Run.open("runs/emulated").record["device"] == "gpu:0 (emulated)"
    assert run.settings["device"] == "gpu:0", "where it is resumed"
    assert gpucnn("runs").stdout.splitlines()[1].split()[1:5] == ["squares", "slides", "gpu:0", "(emulated)"]
    monkeypatch.setattr(driver, "running", lambda: False)
    run.continue_with({"epochs": 3})
    assert run.record["device"] == "gpu:0 (emulated)", "a part of it was"
    assert Run.create("runs/real", settings).record["device"] == "gpu:0"
    monkeypatch.setattr(driver, "running", lambda: True)
    assert Run.create("runs/cpu", settings | {"device": "cpu"}).record["device"] == "cpu"
    real = Run.open("runs/real")
    real.continue_with({"epochs": 3})
    assert real.record["device"] == "gpu:0 (emulated)"


def test_runs_have_json_and_another_folder(runs, run):
    (alone,) = json.loads(gpucnn("runs", run, "--json").stdout)["runs"]
    assert alone["run"] == str(run)
    listed = json.loads(gpucnn("runs", "runs", "--json").stdout)["runs"]
    assert [entry["test_accuracy"] for entry in listed] == [0.75, 0.5, None]
    assert (listed[0]["optimizer"], listed[0]["batch_size"], listed[0]["epochs"]) == ("rmsprop", 16, 2)


def test_a_damaged_run_is_named_and_the_others_listed(runs):
    pathlib.Path("runs/b/run.json").write_text("{")
    result = gpucnn("runs")
    assert result.exit_code == 0
    assert "gpucnn: warning: left out: runs/b/run.json is" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["runs/a", "runs/c"]


def test_a_folder_that_is_not_there_is_one_line():
    result = gpucnn("runs", "gone")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "gpucnn: error: there is no folder gone: give the folder that holds your runs\n"


def test_evaluate_prints_the_scores_of_each_class(run):
    per_class = json.loads(gpucnn("evaluate", run, "--json").stdout)["per_class"]
    table = gpucnn("evaluate", run).stdout.partition("\n\n")[2].splitlines()
    assert table[0].split() == ["class", "precision", "recall", "F1", "images"]
    for line, (name, scores) in zip(table[1:], per_class.items(), strict=True):
        shown = [
            f"{100 * scores[key]:.2f}" if scores[key] is not None else "–" for key in ("precision", "recall", "f1")
        ]
        assert [word for word in line.split() if word != "%"] == [name, *shown, str(scores["images"])]


def test_options_of_stopping_and_rates_reach_the_run(user_npz):
    options = (
        "--early-stopping",
        1,
        "--best",
        "--weight-decay",
        0.1,
        "--schedule",
        "cosine",
        "--validation-split",
        0.25,
    )
    result = gpucnn("train", "--data", user_npz, *FAST, *options, "--epochs", 4, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    settings = record["settings"]
    assert (settings["early_stopping"], settings["best"], settings["weight_decay"]) == (1, True, 0.1)
    assert settings["schedule"] == "cosine"
    assert "Restoring the weights of the best epoch" in result.stderr
    assert 1 <= record["best_epoch"] <= record["epochs_trained"] <= 4
    unknown = gpucnn("train", "--schedule", "cosin")
    assert (unknown.exit_code, "'constant', 'linear', 'cosine', 'exponential'" in unknown.stderr) == (2, True)


def test_a_model_of_the_users_own_is_trained_and_resumed_by_name_and_hash(user_npz):
    pathlib.Path("mine.py").write_text(
        "from gpucnn import Input, Sequential, layers\n\n\ndef build(input_shape, classes):\n"
        "    return Sequential([Input(input_shape), layers.Flatten(), layers.Dense(classes, activation='softmax')])\n"
    )
    options = ("--epochs", 1, "--batch-size", 16, "--no-pictures")
    result = gpucnn("train", "--data", user_npz, "--model", "mine.py:build", *options, "--out", "r")
    assert result.exit_code == 0, result.stderr
    assert "mine.py:build: 1,570 parameters, Adam, batch 16" in result.stderr
    refused = gpucnn("train", "--resume", "r", "--epochs", 2)
    assert (refused.exit_code, "give it again with --model mine.py:build" in refused.stderr) == (2, True)
    resumed = gpucnn("train", "--resume", "r", "--epochs", 2, "--model", "mine.py:build", "--no-pictures")
    assert resumed.exit_code == 0, resumed.stderr
    pathlib.Path("mine.py").unlink()
    assert gpucnn("evaluate", "r").exit_code == 0
    assert commands.find_model("r").count_params() == 1570
