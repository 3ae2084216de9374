"""Run folders: what is in them, and that a run goes on bit for bit however it was stopped."""

import csv
import datetime
import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from places import ROOT

import gpucnn
from gpucnn import files, runs, saving
from gpucnn.errors import FileError, Interrupted
from gpucnn.runs import Checkpoints, Run, Stop, stop_on_signals

SETTINGS = {"dataset": "digits", "model": "slides", "seed": 3, "epochs": 2, "batch_size": 20, "note": "not MNIST"}
RESULTS = {"seconds": 1.5, "images_per_second": 100.0, "train_accuracy": 0.9, "test_accuracy": 0.8, "test_loss": 0.7}
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(problem, small_model):
    """Train a small model in a run, from the beginning or from where it stands."""

    def go(run, model=None, stop=None, save_every=None, more=(), epochs=2):
        x, y = problem
        if model is None:
            gpucnn.utils.set_random_seed(3)
            model = small_model()
        watch = [Checkpoints(run, save_every, stop), *more]
        model.fit(x, y, batch_size=20, epochs=epochs, verbose=0, validation_data=(x[:30], y[:30]), callbacks=watch)
        return model

    return go


def temporary_files(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".gpucnn-tmp")]


# -- the folder --------------------------------------------------------------------------------------------------------


def test_folders_are_named_by_date_data_set_and_model_and_numbered_when_taken():
    today = datetime.date.today().isoformat()
    made = [Run.create(None, SETTINGS).folder.as_posix() for _ in range(3)]
    assert made == [f"runs/{today}-digits-slides{end}" for end in ("", "-2", "-3")]
    path = Run.create(None, {**SETTINGS, "dataset": "../my data/x.npz"}).folder
    assert path.as_posix() == f"runs/{today}-my-data-x.npz-slides"


def test_a_given_folder_is_used_unless_a_run_is_in_it(here):
    run = Run.create(here / "a" / "b", SETTINGS)
    assert run.folder == here / "a" / "b"
    with pytest.raises(
        FileError, match=r"holds a run already: go on with it by --resume .*b, or choose another folder"
    ):
        Run.create(here / "a" / "b", SETTINGS)
    (here / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot make .*file: "):
        Run.create(here / "file", SETTINGS)


def test_run_json_has_the_documented_keys_from_the_beginning(train):
    run = Run.create("r", SETTINGS)
    record = json.loads((run.folder / "run.json").read_text())
    assert list(record)[: len(runs.RESULTS)] == list(runs.RESULTS)
    assert record["status"] == "running"
    assert (record["dataset"], record["seed"], record["test_accuracy"]) == ("digits", 3, None)
    assert record["settings"] == SETTINGS
    assert record["note"] == "not MNIST"
    assert record["versions"].keys() == {"gpucnn", "python", "numpy", "numba", "platform"}
    assert Run.open("r").record == record


def test_the_end_of_a_run_stands_in_its_folder(train):
    run = Run.create("r", SETTINGS)
    model = train(run)
    record = run.finish(model, {**RESULTS, "test_loss": np.float32(0.5), "train_accuracy": math.nan})
    assert json.loads((run.folder / "run.json").read_text()) == record == run.record
    assert record["status"] == "finished"
    assert record["parameters"] == model.count_params()
    assert record["weights_sha256"] == saving.weights_sha256(model)
    assert (record["test_loss"], record["train_accuracy"], record["seconds"]) == (0.5, None, 1.5)
    assert Run.open("r").model_file == run.folder / "model.safetensors"
    trained = saving.load_model(run.model_file)
    assert saving.weights_sha256(trained) == record["weights_sha256"]
    assert int(trained.optimizer.batches[0]) == 0  # the weights alone; to go on there are checkpoints
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


def test_what_callbacks_add_to_the_logs_stands_in_the_history():
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
        ('{"settings":{},"settings":{}}', "give a name twice"),
        ("[" * 10**5, "run.json is damaged: "),
        (" " * (saving.LONGEST_JSON + 1), "longer than"),
    ],
)
def test_what_is_no_run_is_refused(here, text, message):
    if text is not None:
        (here / "run.json").write_text(text)
    with pytest.raises(FileError, match=message):
        Run.open(here)


def test_a_run_that_was_taken_up_again_is_running_with_its_new_settings(train):
    run = Run.create("r", SETTINGS)
    run.finish(train(run), RESULTS)
    again = Run.open("r")
    again.continue_with({"epochs": 5})
    record = Run.open("r").record
    assert (record["status"], record["epochs"], record["settings"]["epochs"]) == ("running", 5, 5)
    assert (record["test_accuracy"], record["seed"], record["note"]) == (None, 3, "not MNIST")


# -- checkpoints -------------------------------------------------------------------------------------------------------


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
        pytest.raises(FileError, match="none of its 2 checkpoints is whole"),
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
    assert saving.weights_sha256(saving.load_model(run.model_file)) == saving.weights_sha256(model)


def test_other_versions_are_named_when_a_run_is_resumed(train):
    run = Run.create("r", SETTINGS)
    train(run)
    run.record["versions"]["numpy"] = "1.0"
    with pytest.warns(
        UserWarning, match=rf"last bits may differ .*: numpy 1\.0 then, {re.escape(np.__version__)} now$"
    ):
        run.resume()


def failing_at(n, number, call, met):
    """The system call, but the n-th of all calls noted in `met` fails."""

    def perhaps(*args, **kwargs):
        met.append(call.__name__)
        if len(met) == n:
            raise OSError(number, os.strerror(number))
        return call(*args, **kwargs)

    return perhaps


def error_of(call, *args):
    """What a call complains of, None if nothing."""
    try:
        call(*args)
    except FileError as error:
        return str(error)
    return None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_a_fault_in_any_call_leaves_a_checkpoint_to_go_on_from(train, monkeypatch, number):
    run = Run.create("r", SETTINGS)
    model = train(run, epochs=1)
    [before] = run.checkpoints()
    model.training_state.batch += 1
    complaints = []
    for n in range(1, 100):
        met = []
        with monkeypatch.context() as patched:
            for name in ("mkdir", "open", "write", "fsync", "replace", "unlink"):
                patched.setattr(os, name, failing_at(n, number, getattr(os, name), met))
            complaints.append(error_of(run.save_checkpoint, model))
        saving.verify(before)
        assert run.latest_checkpoint() in run.checkpoints()
        assert not temporary_files(run.folder)
        if len(met) < n:
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


# -- stopping and going on ---------------------------------------------------------------------------------------------


class AskToStop(gpucnn.callbacks.Callback):
    """Asks for a stop at one moment of training."""

    def __init__(self, stop, moment):
        super().__init__()
        self.stop, self.moment = stop, moment

    def on_train_batch_begin(self, batch, logs=None):
        state = self.model.training_state
        if (state.epoch, batch) == self.moment:
            self.stop.asked = signal.SIGINT

    def on_test_begin(self, logs=None):
        if (self.model.training_state.epoch, "validation") == self.moment:
            self.stop.asked = signal.SIGTERM


@pytest.mark.parametrize("moment", [*((e, b) for e in (0, 1) for b in range(5)), (0, "validation"), (1, "validation")])
def test_a_stopped_run_goes_on_bit_for_bit(train, moment):
    unbroken = Run.create("unbroken", SETTINGS)
    expected = train(unbroken)
    run, stop = Run.create("broken", SETTINGS), Stop()
    with pytest.raises(Interrupted, match=r"go on with: gpucnn train --resume broken$") as caught:
        train(run, stop=stop, more=[AskToStop(stop, moment)])
    assert caught.value.exit_status == (143 if moment[1] == "validation" else 130)
    assert Run.open("broken").record["status"] == "interrupted"

    run = Run.open("broken")
    epoch, batch = (moment[0] + 1, 0) if moment[1] == "validation" else (moment[0], moment[1] + 1)
    assert run.latest_checkpoint().stem == f"epoch-{epoch}-batch-{batch}"
    gpucnn.utils.set_random_seed(99)
    resumed = train(run, run.resume())
    assert saving.weights_sha256(resumed) == saving.weights_sha256(expected)
    assert (run.folder / "history.csv").read_bytes() == (unbroken.folder / "history.csv").read_bytes()
    slots = [model.optimizer.slots(model.parameters) for model in (expected, resumed)]
    assert all(array.tobytes() == slots[1][name].tobytes() for name, array in slots[0].items())


def test_a_finished_run_goes_on_for_more_epochs_as_if_it_had_not_ended(train):
    expected = train(Run.create("long", SETTINGS), epochs=4)
    run = Run.create("short", SETTINGS)
    run.finish(train(run, epochs=2), RESULTS)
    resumed = train(run, run.resume(), epochs=4)
    assert saving.weights_sha256(resumed) == saving.weights_sha256(expected)
    assert len((run.folder / "history.csv").read_text().splitlines()) == 5


CHILD = textwrap.dedent(
    """
    import sys, time, warnings
    import numpy as np
    import gpucnn
    from gpucnn import layers, runs, saving
    from gpucnn.errors import GpucnnError, Interrupted

    how, folder, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
    gpucnn.use("numpy")
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(60, 6, 6, 1)).astype(np.float32), rng.integers(0, 3, 60)

    class Slow(gpucnn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            print("batch", flush=True)
            time.sleep(pause)

    try:
        run = runs.Run.create(folder, {"dataset": "d", "model": "m"}) if how == "new" else runs.Run.open(folder)
        model = run.resume()
        if model is None:
            gpucnn.utils.set_random_seed(5)
            model = gpucnn.Sequential(
                [gpucnn.Input((6, 6, 1)), layers.Conv2D(2, 3, activation="relu"), layers.BatchNormalization(),
                 layers.Flatten(), layers.Dropout(0.3), layers.Dense(3, activation="softmax")]
            )
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        with run.locked(), runs.stop_on_signals() as stop:
            watch = [Slow(), runs.Checkpoints(run, 1, stop)]
            model.fit(x, y, batch_size=10, epochs=3, verbose=0, callbacks=watch)
        print(run.finish(model, {})["weights_sha256"])
    except Interrupted as error:
        print(error)
        sys.exit(error.exit_status)
    except GpucnnError as error:
        print(error)
        sys.exit(1)
    """
)


class Child:
    """A process that trains in a folder, one line for each batch; killed when the with statement ends."""

    def __init__(self, how, folder, pause=0.0):
        command = [sys.executable, "-c", CHILD, how, str(folder), str(pause)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def await_batches(self, count):
        for _ in range(count):
            assert self.process.stdout.readline() == "batch\n", self.process.stderr.read()

    def end(self):
        """(exit status, last line)"""
        out, err = self.process.communicate(timeout=60)
        assert not err, err
        return self.process.returncode, out.splitlines()[-1] if out else ""


def ended(*arguments):
    with Child(*arguments) as child:
        return child.end()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The hash of the weights that an unbroken run of the child ends with."""
    status, line = ended("new", tmp_path_factory.mktemp("unbroken") / "run")
    assert status == 0
    return line


@posix
def test_a_run_killed_at_any_moment_ends_with_the_same_weights(here, unbroken):
    """kill -9 while a batch is trained or its checkpoint written."""
    for how, batches, pause in (("new", 1, 0.0), ("resume", 7, 0.002)):
        with Child(how, here / "run", 0.002) as child:
            child.await_batches(batches)
            time.sleep(pause)
    assert ended("resume", here / "run") == (0, unbroken)
    assert temporary_files(here) == []


@posix
def test_a_signal_ends_the_run_after_its_batch_with_a_checkpoint(here, unbroken):
    for how, number, status in (("new", signal.SIGINT, 130), ("resume", signal.SIGTERM, 143)):
        with Child(how, here / "run", 0.2) as child:
            child.await_batches(2)
            child.process.send_signal(number)
            assert child.end() == (
                status,
                f"stopped by {number.name}; go on with: gpucnn train --resume {here / 'run'}",
            )
        assert Run.open(here / "run").record["status"] == "interrupted"
        assert Run.open(here / "run").resume().training_state.batch == (2 if how == "new" else 4)
    assert ended("resume", here / "run") == (0, unbroken)


@posix
def test_a_second_signal_ends_the_process_at_once(here):
    with Child("new", here / "run", 60) as child:
        child.await_batches(1)
        child.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(0.2)
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(10) == -signal.SIGTERM


def test_only_one_process_trains_in_a_folder():
    Run.create("r", SETTINGS)
    with Run.open("r").locked():
        said = "r is in use: another process trains in it; wait for it or stop it"
        with pytest.raises(FileError, match=f"^{said}$"), Run.open("r").locked():
            pass
    with Run.open("r").locked():
        pass


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(monkeypatch):
    def no_locks(descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    run = Run.create("r", SETTINGS)
    monkeypatch.setattr(runs, "lock", no_locks)
    with pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\): start no second run"), run.locked():
        pass
    run.folder = run.folder / "gone"
    with pytest.raises(FileError, match="there is no folder"), run.locked():
        pass


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background and it was ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_signals_get_their_handlers_back(interruptible):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals() as stop:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert stop.asked is None
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(Interrupted, match=r"^stopped by SIGINT; go on with") as caught:
        signal_twice()
    assert caught.value.exit_status == 130  # nothing heeded it, and yet it is not lost
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def signal_twice():
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def work():
        with stop_on_signals() as stop:
            seen.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
