"""A run continues bit for bit however it was stopped."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import needs
import pytest
from places import ROOT
from processes import program
from run_folder import RESULTS, SETTINGS, temporary_files

import gpucnn
from gpucnn.errors import FileError, Interrupted
from gpucnn.models import saving
from gpucnn.runs.run import Run, Stop, stop_on_signals

pytestmark = pytest.mark.usefixtures("here")


class RequestStop(gpucnn.callbacks.Callback):
    """Requests a stop at one moment of training, as a signal does."""

    def __init__(self, stop, moment):
        super().__init__()
        self.stop, self.moment = stop, moment

    def on_train_batch_begin(self, batch, logs=None):
        state = self.model.training_state
        if (state.epoch, batch) == self.moment:
            self.stop.received = signal.SIGINT

    def on_test_begin(self, logs=None):
        if (self.model.training_state.epoch, "validation") == self.moment:
            self.stop.received = signal.SIGTERM


@pytest.mark.parametrize("moment", [*((e, b) for e in (0, 1) for b in range(5)), (0, "validation"), (1, "validation")])
def test_a_stopped_run_resumes_bit_for_bit(train, moment):
    unbroken = Run.create("unbroken", SETTINGS)
    expected = train(unbroken)
    run, stop = Run.create("broken", SETTINGS), Stop()
    with pytest.raises(Interrupted, match=r"resume with: gpucnn train --resume broken$") as caught:
        train(run, stop=stop, more=[RequestStop(stop, moment)])
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


def test_a_finished_run_continues_for_more_epochs_as_if_it_had_not_ended(train):
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
    from gpucnn import layers
    from gpucnn.models import saving
    from gpucnn.runs import run as runs
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
    """A process that trains in a folder, one line for each batch; killed on leaving `with`."""

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
        out, err = self.process.communicate(timeout=600)
        assert not err, err
        return self.process.returncode, out.splitlines()[-1] if out else ""


def ended(*arguments):
    with Child(*arguments) as child:
        return child.end()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The hash of the final weights of an unbroken run of the child."""
    status, line = ended("new", tmp_path_factory.mktemp("unbroken") / "run")
    assert status == 0
    return line


@needs.posix_here
def test_a_run_killed_at_any_moment_ends_with_the_same_weights(here, unbroken):
    """kill -9 while a batch is trained or its checkpoint written."""
    for how, batches, pause in (("new", 1, 0.0), ("resume", 7, 0.002)):
        with Child(how, here / "run", 0.002) as child:
            child.await_batches(batches)
            time.sleep(pause)
    assert ended("resume", here / "run") == (0, unbroken)
    assert temporary_files(here) == []


@needs.posix_here
def test_a_signal_ends_the_run_after_its_batch_with_a_checkpoint(here, unbroken):
    for how, number, status in (("new", signal.SIGINT, 130), ("resume", signal.SIGTERM, 143)):
        with Child(how, here / "run", 0.2) as child:
            child.await_batches(2)
            child.process.send_signal(number)
            assert child.end() == (
                status,
                f"stopped by {number.name}; resume with: gpucnn train --resume {here / 'run'}",
            )
        assert Run.open(here / "run").record["status"] == "interrupted"
        assert Run.open(here / "run").resume().training_state.batch == (2 if how == "new" else 4)
    assert ended("resume", here / "run") == (0, unbroken)


@needs.posix_here
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
        message = "r is in use: another process is training in it; wait for it or stop it"
        with pytest.raises(FileError, match=f"^{message}$"), Run.open("r").locked():
            pass
    with Run.open("r").locked():
        pass


def test_a_lock_that_cannot_be_closed_ends_a_run_in_one_line(tmp_path, monkeypatch):
    """As on a network file system: closing may be the first call that meets a fault."""
    run = Run.create(tmp_path / "r", SETTINGS)
    close = os.close

    def failing(descriptor):
        close(descriptor)
        raise OSError(5, "Input/output error")

    with pytest.raises(FileError, match=r"^cannot close .*\.lock: input/output error; check the disk$"), run.locked():
        monkeypatch.setattr(os, "close", failing)
    with pytest.raises(KeyError, match="from the run"), run.locked():
        raise KeyError("from the run")


@needs.posix_here
def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    """Such as a worker of the user's own loader, which may live on."""
    done = program(f"""
import os, signal, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, "tests/runs")
from run_folder import SETTINGS
from gpucnn.runs.run import Run

run = Run.create({str(tmp_path / "r")!r}, SETTINGS)
go, going = os.pipe()
with run.locked():
    child = os.fork()
    if not child:
        signal.alarm(60)
        os.read(go, 1)
        os._exit(0)
with run.locked():
    pass
os.write(going, b".")
assert os.waitpid(child, 0)[1] == 0
""")
    assert done.returncode == 0, done.stderr


@needs.posix_here
def test_nor_where_its_parent_is_killed(tmp_path):
    done = program(f"""
import os, signal, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, "tests/runs")
from run_folder import SETTINGS
from gpucnn.runs.run import Run

run = Run.create({str(tmp_path / "r")!r}, SETTINGS)
ready, tell = os.pipe()
go, going = os.pipe()
parent = os.fork()
if not parent:
    held = run.locked()
    held.__enter__()
    if not os.fork():
        signal.alarm(60)
        os.write(tell, b".")
        os.read(go, 1)
        os._exit(0)
    signal.pause()
os.read(ready, 1)
os.kill(parent, signal.SIGKILL)
os.waitpid(parent, 0)
with run.locked():
    os.write(going, b".")
""")
    assert done.returncode == 0, done.stderr


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(monkeypatch):
    def no_locks(descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    run = Run.create("r", SETTINGS)
    monkeypatch.setattr("gpucnn.runs.run.lock", no_locks)
    with (
        pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\): do not start a second run"),
        run.locked(),
    ):
        pass
    run.folder = run.folder / "gone"
    with pytest.raises(FileError, match="there is no folder"), run.locked():
        pass


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, even if the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_signals_get_their_handlers_back(interruptible):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals() as stop:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert stop.received is None
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(Interrupted, match=r"^stopped by SIGINT; resume with") as caught:
        signal_twice()
    assert caught.value.exit_status == 130  # no batch reacted to it, and yet it is not lost
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def signal_twice():
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def work():
        with stop_on_signals() as stop:
            seen.append(stop.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
