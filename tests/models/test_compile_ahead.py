"""The kernels of a first step, compiled by two processes."""

import pytest
from processes import program

from gpucnn.devices import forks

LINUX = pytest.mark.skipif(not forks.is_possible(), reason="copies of the process compute on Linux alone")

MODEL = """
    import hashlib, sys
    import numba
    import numpy as np
    from numba.core import event
    import gpucnn
    from gpucnn import layers
    from gpucnn.devices import forks
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
    compile_ahead._compile(trainer.step, Batch(x, y, None))
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
