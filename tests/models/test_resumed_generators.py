"""A training on a generator that is resumed in a new process meets the batches that are still to come."""

import itertools

import numpy as np
import pytest

import gpucnn
from gpucnn import Input, Sequential, callbacks, layers
from gpucnn.errors import ArgumentError
from gpucnn.models.loading import load_model
from gpucnn.models.saving import load_checkpoint, save_checkpoint

STEPS, EPOCHS = 3, 3
SEEN = {True: [], False: []}


@gpucnn.register
class Noted(layers.Layer):
    """Notes the first value of each batch, in training and in inference."""

    def forward(self, x, step, training):
        SEEN[training].append(int(x[0, 0]))
        return x * 1e-3, lambda dy, need_dx=True: dy


class Off(Exception):
    pass


class StopAfter(callbacks.Callback):
    """Saves a checkpoint after so many batches, and raises."""

    def __init__(self, path, batches):
        self.path, self.left = path, batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            save_checkpoint(self.path, self.model)
            raise Off


def numbered(first=0):
    """Batches whose values are their numbers."""
    for i in itertools.count(first):
        yield np.full((2, 1), i, np.float32), np.zeros((2, 1), np.float32)


class Restarting:
    """An iterable that begins anew in each epoch."""

    def __len__(self):
        return STEPS

    def __iter__(self):
        return itertools.islice(numbered(), STEPS)


KINDS = {
    "generator": numbered,
    "iterator": lambda: map(lambda pair: pair, numbered()),
    "iterable": Restarting,
}


def fit(model, kind, *hooks, epochs=EPOCHS, **given):
    for seen in SEEN.values():
        seen.clear()
    arguments = {
        "x": KINDS[kind](),
        "steps_per_epoch": STEPS,
        "validation_data": KINDS[kind](),
        "validation_steps": 2,
        "validation_freq": [1, 3],
        **given,
    }
    model.fit(**arguments, epochs=epochs, verbose=0, callbacks=list(hooks))
    return list(SEEN[True]), list(SEEN[False])


def made():
    model = Sequential([Input((1,)), Noted(), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batches", range(1, STEPS * EPOCHS))
def test_no_batch_is_lost_and_none_is_seen_twice(tmp_path, kind, batches):
    path = tmp_path / "c.safetensors"
    whole, tested = fit(made(), kind)
    with pytest.raises(Off):
        fit(made(), kind, StopAfter(path, batches))
    tested_before = list(SEEN[False])
    resumed = load_model(path)
    load_checkpoint(path, resumed)
    rest, tested_after = fit(resumed, kind)
    assert rest == whole[batches:]
    assert tested_before + tested_after == tested


def test_more_epochs_go_on_in_the_generator(tmp_path):
    path = tmp_path / "c.safetensors"
    model = made()
    fit(model, "generator", epochs=2)
    save_checkpoint(path, model)
    load_checkpoint(path, model)
    assert fit(model, "generator")[0] == [6, 7, 8]


def test_a_generator_that_has_begun_goes_on_where_it_is(tmp_path):
    path, generator = tmp_path / "c.safetensors", numbered()
    model = made()
    with pytest.raises(Off):
        fit(model, "generator", StopAfter(path, 4), x=generator)
    load_checkpoint(path, model)
    assert fit(model, "generator", x=generator)[0] == list(range(4, 9))


def test_a_new_fit_begins_with_the_generator(tmp_path):
    model = made()
    fit(model, "generator")
    assert fit(model, "generator", epochs=1)[0] == [0, 1, 2]


def test_a_generator_that_is_too_short_for_what_was_trained_says_so(tmp_path):
    path = tmp_path / "c.safetensors"
    model = made()
    with pytest.raises(Off):
        fit(model, "generator", StopAfter(path, 5))
    load_checkpoint(path, model)
    with pytest.raises(ArgumentError, match="the generator ended after 4 batches, and 5 were trained before"):
        fit(model, "generator", x=itertools.islice(numbered(), 4))
