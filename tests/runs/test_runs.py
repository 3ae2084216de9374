"""Run folders: what is in them, and from which checkpoint a run resumes."""

import csv
import datetime
import errno
import json
import math
import os
import re

import numpy as np
import pytest
from run_folder import RESULTS, SETTINGS, temporary_files

import gpucnn
from gpucnn import files
from gpucnn.errors import FileError
from gpucnn.models import loading, saving
from gpucnn.runs.run import RESULTS as OUTCOME
from gpucnn.runs.run import Checkpoints, Run

pytestmark = pytest.mark.usefixtures("here")


def test_folders_are_named_by_date_data_set_and_model_and_numbered_when_taken():
    today = datetime.date.today().isoformat()
    folders = [Run.create(None, SETTINGS).folder.as_posix() for _ in range(3)]
    assert folders == [f"runs/{today}-digits-slides{end}" for end in ("", "-2", "-3")]
    path = Run.create(None, {**SETTINGS, "dataset": "../my data/x.npz"}).folder
    assert path.as_posix() == f"runs/{today}-my-data-x.npz-slides"


def test_a_given_folder_is_used_unless_a_run_is_in_it(here):
    run = Run.create(here / "a" / "b", SETTINGS)
    assert run.folder == here / "a" / "b"
    with pytest.raises(FileError, match=r"already holds a run: resume it with --resume .*b, or choose another folder"):
        Run.create(here / "a" / "b", SETTINGS)
    (here / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot make .*file: "):
        Run.create(here / "file", SETTINGS)


def test_run_json_has_the_documented_keys_from_the_beginning(train):
    run = Run.create("r", SETTINGS)
    record = json.loads((run.folder / "run.json").read_text())
    assert list(record)[: len(OUTCOME)] == list(OUTCOME)
    assert record["status"] == "running"
    assert (record["dataset"], record["seed"], record["test_accuracy"]) == ("digits", 3, None)
    assert record["settings"] == SETTINGS
    assert record["note"] == "not MNIST"
    assert record["versions"].keys() == {"gpucnn", "python", "numpy", "numba", "platform"}
    assert Run.open("r").record == record


def test_the_results_of_a_run_are_in_its_folder(train):
    run = Run.create("r", SETTINGS)
    model = train(run)
    record = run.finish(model, {**RESULTS, "test_loss": np.float32(0.5), "train_accuracy": math.nan})
    assert json.loads((run.folder / "run.json").read_text()) == record == run.record
    assert record["status"] == "finished"
    assert record["parameters"] == model.count_params()
    assert record["weights_sha256"] == saving.weights_sha256(model)
    assert (record["test_loss"], record["train_accuracy"], record["seconds"]) == (0.5, None, 1.5)
    assert Run.open("r").model_file == run.folder / "model.safetensors"
    trained = loading.load_model(run.model_file)
    assert saving.weights_sha256(trained) == record["weights_sha256"]
    assert int(trained.optimizer.batches[0]) == 0  # the weights alone; checkpoints are what a run resumes from
    assert sorted(path.name for path in run.folder.iterdir()) == [
        *("checkpoints", "history.csv", "model.safetensors", "run.json")
    ]


def test_the_history_has_every_digit_of_every_epoch(train):
    run = Run.create("r", SETTINGS)
    history = train(run).history.history
    rows = list(csv.DictReader((run.folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == values


def test_what_callbacks_add_to_the_logs_is_in_the_history():
    class Rate(gpucnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["learning_rate"] = 0.25

    run = Run.create("r", SETTINGS)
    x, y = np.zeros((8, 2), np.float32), np.zeros((8, 1), np.float32)
    model = gpucnn.Sequential([gpucnn.Input((2,)), gpucnn.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[Rate(), Checkpoints(run)])
    rows = list(csv.DictReader((run.folder / "history.csv").read_text().splitlines()))
    assert [row["learning_rate"] for row in rows] == ["0.25", "0.25"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a run folder: there is no run.json in it"),
        ("{", r"run.json is damaged: "),
        ("[]", r"run.json is damaged: "),
        ("{}", "settings or versions are missing"),
        ('{"settings":{},"settings":{}}', "gives a name twice"),
        ("[" * 10**5, "run.json is damaged: "),
        (" " * (saving.LONGEST_JSON + 1), "longer than"),
    ],
)
def test_what_is_not_a_run_is_refused(here, text, message):
    if text is not None:
        (here / "run.json").write_text(text)
    with pytest.raises(FileError, match=message):
        Run.open(here)


def test_a_run_that_is_continued_is_running_with_its_new_settings(train):
    run = Run.create("r", SETTINGS)
    run.finish(train(run), RESULTS)
    again = Run.open("r")
    again.continue_with({"epochs": 5})
    record = Run.open("r").record
    assert (record["status"], record["epochs"], record["settings"]["epochs"]) == ("running", 5, 5)
    assert (record["test_accuracy"], record["seed"], record["note"]) == (None, 3, "not MNIST")


def test_the_last_two_checkpoints_are_kept_in_order_of_training(train):
    run = Run.create("r", SETTINGS)
    train(run, save_every=2)
    assert [path.name for path in run.checkpoints()] == [
        *("epoch-1-batch-4.safetensors", "epoch-2-batch-0.safetensors")
    ]
    assert sorted(run.folder.glob("checkpoints/*")) == run.checkpoints()
    (run.folder / "checkpoints" / "epoch-10-batch-0.safetensors").touch()
    (run.folder / "checkpoints" / "notes.txt").touch()
    assert [path.name for path in run.checkpoints()][-2:] == [
        *("epoch-2-batch-0.safetensors", "epoch-10-batch-0.safetensors")
    ]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(train):
    run = Run.create("r", SETTINGS)
    train(run)
    older, newest = run.checkpoints()
    assert run.latest_checkpoint() == newest
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged: .*SHA-256; the checkpoint before it is used"):
        assert run.latest_checkpoint() == older
    older.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(FileError, match="all 2 checkpoints are damaged"),
    ):
        run.latest_checkpoint()


def test_before_the_first_checkpoint_there_is_nothing_to_resume():
    run = Run.create("r", SETTINGS)
    assert run.latest_checkpoint() is None
    assert run.resume() is None
    with pytest.raises(FileError, match="has no trained model and no checkpoint"):
        _ = run.model_file


def test_an_unfinished_run_offers_its_newest_checkpoint(train):
    run = Run.create("r", SETTINGS)
    model = train(run)
    assert run.model_file == run.checkpoints()[-1]
    assert saving.weights_sha256(loading.load_model(run.model_file)) == saving.weights_sha256(model)


def test_other_versions_are_named_when_a_run_is_resumed(train):
    run = Run.create("r", SETTINGS)
    train(run)
    run.record["versions"]["numpy"] = "1.0"
    with pytest.warns(
        UserWarning, match=rf"last bits may differ .*: numpy 1\.0 then, {re.escape(np.__version__)} now$"
    ):
        run.resume()


def failing_at(n, number, call, calls):
    """The system call, but the n-th of all calls noted in `calls` fails."""

    def perhaps(*args, **kwargs):
        calls.append(call.__name__)
        if len(calls) == n:
            raise OSError(number, os.strerror(number))
        return call(*args, **kwargs)

    return perhaps


def error_of(call, *args):
    """The error message of a call, None if it has none."""
    try:
        call(*args)
    except FileError as error:
        return str(error)
    return None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_a_fault_in_any_call_leaves_a_checkpoint_to_resume_from(train, monkeypatch, number):
    run = Run.create("r", SETTINGS)
    model = train(run, epochs=1)
    [before] = run.checkpoints()
    model.training_state.batch += 1
    complaints = []
    for n in range(1, 100):
        calls = []
        with monkeypatch.context() as patched:
            for name in ("mkdir", "open", "write", "fsync", "replace", "unlink"):
                patched.setattr(os, name, failing_at(n, number, getattr(os, name), calls))
            complaints.append(error_of(run.save_checkpoint, model))
        saving.verify(before)
        assert run.latest_checkpoint() in run.checkpoints()
        assert not temporary_files(run.folder)
        if len(calls) < n:
            break
    assert complaints[0] is complaints[-1] is None  # the folder was there already; no fault
    assert len(complaints) == 8
    for complaint in complaints[1:-1]:
        assert complaint.isprintable()
        assert f"epoch-1-batch-1.safetensors: {files._CAUSES[number]}" in complaint
    assert len(run.checkpoints()) == 2


def test_a_full_disk_while_training_is_one_line_and_the_last_checkpoint_stays(train, monkeypatch):
    run = Run.create("r", SETTINGS)
    write, written = os.write, []

    def fill_up(descriptor, data):
        written.append(len(data))
        if sum(written) > 60_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fill_up)
        with pytest.raises(FileError, match=r"cannot write .*: the disk is full; free some space$"):
            train(run, save_every=1, epochs=100)
    assert run.resume().training_state.epochs == [0]
