"""The kernels of a first step, compiled by two processes, or for a GPU by threads."""

import threading

import numpy as np
import pytest
from needs import emulator_here
from processes import program

import gpucnn
from gpucnn import layers
from gpucnn.devices import ahead, forks
from gpucnn.devices.emulator.device import Emulator
from gpucnn.dispatch import choice

LINUX = pytest.mark.skipif(not forks.is_possible(), reason="copies of the process compute on Linux alone")

MODEL = """
    import hashlib, os, sys, tempfile
    from pathlib import Path
    import numba
    import numpy as np
    from numba.core import event
    import gpucnn
    from gpucnn import layers
    from gpucnn.devices import forks, team
    from gpucnn.models import compile_ahead
    from gpucnn.models.batches import Batch

    class Compilations(event.Listener):
        count = 0

        def on_start(self, e):
            self.count += 1

        def on_end(self, e):
            pass

    compilations = Compilations()
    event.register("numba:compile", compilations)
    gpucnn.utils.set_random_seed(0)
    model = gpucnn.Sequential(
        [
            layers.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.default_rng(0).random((20, 8, 8, 2), np.float32), np.arange(20) % 3

    def weights():
        return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
"""


def run(text, cache):
    done = program(MODEL + text, GPUCNN_CACHE=str(cache), NUMBA_CACHE_DIR=str(cache / "numba"))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@LINUX
def test_what_is_compiled_ahead_is_all_that_training_and_testing_compile(tmp_path):
    ahead = """
    before = weights()
    trainer = model._trainer
    trainer.take(x, y, None, 20, None)
    team.share_address()  # which the step itself compiles before anything else
    with tempfile.TemporaryDirectory() as claims:
        compile_ahead._compile(trainer.step, Batch(x, y, None), Path(claims))
    print(compilations.count > 0)
    """
    assert run(ahead, tmp_path) == ["True"]
    train = """
    model.fit(x, y, batch_size=20, verbose=0)
    model.evaluate(x, y, verbose=0)
    print(compilations.count)
    """
    assert run(train, tmp_path) == ["0"]


@LINUX
def test_no_kernel_is_compiled_by_both_processes(tmp_path):
    train = """
    from gpucnn.devices import njit
    save = njit._Entries.save

    def noted(self, key, data):
        save(self, key, data)
        with open(sys.argv[0] + ".log", "a") as log:
            log.write(f"{os.getpid()} {self._name_of(key)}\\n")

    njit._Entries.save = noted
    model.fit(x, y, batch_size=20, verbose=0)
    print("done")
    """.replace('sys.argv[0] + ".log"', repr(str(tmp_path / "log")))
    assert run(train, tmp_path) == ["done"]
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    processes, names = zip(*lines, strict=True)
    assert len(set(processes)) == 2
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("waits", [True, False])
def test_a_kernel_that_another_process_has_claimed_is_waited_for_or_left_out(waits, tmp_path, monkeypatch):
    from gpucnn.devices import njit

    entries = njit._Entries(str(tmp_path), "kernel", "stamp")
    (tmp_path / "claims").mkdir()
    with njit.sharing(tmp_path / "claims", waits=True):
        assert entries.load("types") is None
    with njit.sharing(tmp_path / "claims", waits=waits):
        if waits:
            threading.Timer(0.1, lambda: entries.save("types", "machine code")).start()
            assert entries.load("types") == "machine code"
        else:
            with pytest.raises(njit.CompiledElsewhere):
                entries.load("types")
    monkeypatch.setattr(njit, "_SECONDS", 0.01)
    with njit.sharing(tmp_path / "claims", waits=True):
        assert entries.load("types") == ("machine code" if waits else None)


@LINUX
def test_a_first_step_shares_its_compilation_and_gives_the_same_bits(tmp_path):
    train = """
    asked = []
    aside, forks.aside = forks.aside, lambda function: (asked.append(1), aside(function))
    model.fit(x, y, batch_size=10, verbose=0)
    print(len(asked), weights())
    """
    cold, warm = run(train, tmp_path), run(train, tmp_path)
    assert (cold[0], warm[0]) == ("1", "0")
    assert cold[1] == warm[1]


@LINUX
def test_one_core_compiles_alone(tmp_path):
    train = """
    compile_ahead.threads.available = lambda: 1
    forks.aside = lambda function: sys.exit("forked")
    model.train_on_batch(x, y)
    """
    assert run(train, tmp_path) == []


@pytest.fixture
def compilations(monkeypatch):
    """(whether a thread ahead of all launches has asked for it, what is compiled) for each kernel on the emulator."""
    noted, prepare = [], Emulator.prepare_cuda

    def prepare_cuda(device, function):
        ahead = threading.current_thread().name.startswith("gpucnn-compiler")
        noted.append((ahead, device.compiled_together(function)))
        return prepare(device, function)

    monkeypatch.setattr(Emulator, "prepare_cuda", prepare_cuda)
    return noted


def compiled_model():
    gpucnn.utils.set_random_seed(0)
    model = gpucnn.Sequential(
        [
            layers.Input((8, 8, 2)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        gpucnn.optimizers.Nadam(0.01, use_ema=True, global_clipnorm=1.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


RNG = np.random.default_rng(0)
X, Y = RNG.random((20, 8, 8, 2), np.float32), np.arange(20) % 3
HELD_OUT = X[:10], Y[:10]
DOINGS = {
    "fit": lambda model: model.fit(
        X, Y, batch_size=8, epochs=2, validation_data=HELD_OUT, validation_batch_size=7, verbose=0
    ),
    "fit a generator": lambda model: model.fit(((x, y) for x, y in [(X, Y)] * 3), steps_per_epoch=3, verbose=0),
    "evaluate": lambda model: model.evaluate(X, Y, batch_size=8, verbose=0),
    "predict": lambda model: model.predict(X, batch_size=8, verbose=0),
}


@emulator_here
@pytest.mark.parametrize("doing", DOINGS)
def test_on_a_gpu_all_is_compiled_before_the_first_launch(compilations, doing):
    with gpucnn.using(device="emulator"):
        DOINGS[doing](compiled_model())
    first = next(number for number, (ahead, _) in enumerate(compilations) if not ahead)
    assert not any(ahead for ahead, _ in compilations[first:])
    units = [unit for _, unit in compilations[:first]]
    assert len(units) == len(set(units)) > 3
    assert {unit for _, unit in compilations[first:]} == set(units)


@emulator_here
@pytest.mark.parametrize("doing", ["fit", "fit a generator"])
def test_compiling_ahead_leaves_all_bits_of_a_training_on_a_gpu(monkeypatch, doing):
    def trained():
        model = compiled_model()
        with gpucnn.using(device="emulator"):
            history = DOINGS[doing](model).history
            return [w.tobytes() for w in model.get_weights()], history, model.optimizer.iterations[0]

    before = trained()
    monkeypatch.setattr(ahead, "compile_ahead", lambda rehearse, say=None: None)
    assert trained() == before


@emulator_here
@pytest.mark.parametrize("doing", ["fit", "fit a generator"])
def test_nothing_is_rehearsed_where_kernels_are_measured(compilations, monkeypatch, doing):
    monkeypatch.setattr(choice, "tuning", lambda: "fast")
    monkeypatch.setattr(choice, "tuner", lambda op, kernel, arrays, params: kernel)
    with gpucnn.using(device="emulator"):
        DOINGS[doing](compiled_model())
    assert not any(ahead for ahead, _ in compilations)


@emulator_here
def test_what_is_not_gpucnn_s_own_is_not_rehearsed(compilations):
    model = gpucnn.Sequential(
        [layers.Input((4,)), layers.Dense(3, activation=lambda x: (x, lambda dy: dy)), layers.Softmax()]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    with gpucnn.using(device="emulator"):
        model.fit(X.reshape(20, -1)[:, :4], Y, verbose=0)
    assert not any(ahead for ahead, _ in compilations)
