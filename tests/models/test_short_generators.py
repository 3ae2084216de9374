"""A generator that ends before its steps are done: the count is true, and the advice fits the call."""

import re
import warnings

import numpy as np
import pytest

from gpucnn import Input, Sequential, callbacks, layers
from gpucnn.errors import ArgumentError


def batches(count):
    for _ in range(count):
        yield np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)


class Three:
    """An iterable of three batches that can be read again."""

    def __iter__(self):
        return batches(3)


@pytest.fixture
def model():
    model = Sequential([Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


SHORT = r"the generator ended after 3 of 5 batches"


def counts(capsys):
    """The counts of steps in the lines of progress."""
    return re.findall(r"\b\d+/\d+ ", capsys.readouterr().out)


def test_fit_shows_how_many_batches_there_were(model, capsys):
    seen = []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(watch.params["steps"]))
    with pytest.warns(UserWarning, match=rf"{SHORT} in epoch 1: make it endless .* or give a smaller"):
        model.fit(batches(3), steps_per_epoch=5, verbose=2, callbacks=[watch])
    assert counts(capsys) == ["3/3 "]
    assert seen == [3]


def test_fit_on_an_iterable_that_is_shorter_in_each_epoch(model, capsys):
    with pytest.warns(UserWarning, match=SHORT.replace("generator", "iterable")) as caught:
        model.fit(Three(), steps_per_epoch=5, epochs=2, verbose=2)
    assert len(caught) == 2
    assert counts(capsys) == ["1/2 ", "3/3 ", "2/2 ", "3/3 "]


def test_the_next_epoch_says_how_many_batches_are_needed(model):
    with (
        pytest.warns(UserWarning, match=SHORT),
        pytest.raises(ArgumentError, match=r"no batch in epoch 2: .*; each epoch takes 5 batches: .*while True"),
    ):
        model.fit(batches(3), steps_per_epoch=5, epochs=2, verbose=0)


def test_without_steps_the_advice_is_to_give_them(model):
    with pytest.raises(ArgumentError, match=r"no batch in epoch 2: .*; give steps_per_epoch, and make it endless"):
        model.fit(batches(3), epochs=2, verbose=0)


def test_a_training_that_is_stopped_shows_the_batches_that_ran(model, capsys):
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(np.ones((20, 2)), np.ones(20), batch_size=4, verbose=2, callbacks=[Stop()])
    assert counts(capsys) == ["2/2 "]


def test_the_validation_says_so_of_itself(model):
    x, y = np.ones((8, 2)), np.ones(8)
    with (
        pytest.warns(UserWarning, match="the generator of validation_data ended after 3 of 5"),
        pytest.raises(ArgumentError, match=r"validation_data is exhausted; each validation takes 5 .*or give arrays"),
    ):
        model.fit(x, y, epochs=2, validation_data=batches(3), validation_steps=5, verbose=0)


def test_evaluate_and_predict_show_how_many_batches_there_were(model, capsys):
    with pytest.warns(UserWarning, match=f"^{SHORT}"):
        model.evaluate(batches(3), steps=5, verbose=2)
    assert counts(capsys) == ["3/3 "]
    with pytest.warns(UserWarning, match=f"^{SHORT}"):
        assert len(model.predict(batches(3), steps=5, verbose=2)) == 12
    assert counts(capsys) == ["3/3 "]


def test_a_bar_shows_the_batches_that_ran(model, capsys, monkeypatch):
    from terminal import Terminal

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("gpucnn.progress.sys.stdout", terminal)
    with pytest.warns(UserWarning, match=SHORT):
        model.fit(batches(3), steps_per_epoch=5, verbose=1)
    assert terminal.lines()[0].startswith("3/3 " + "━" * 20)


def test_a_generator_that_lasts_gives_no_warning(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(batches(10), steps_per_epoch=5, epochs=2, validation_data=batches(5), validation_freq=2, verbose=0)
        model.evaluate(batches(5), steps=5, verbose=0)
        model.predict(batches(6), steps=5, verbose=0)
