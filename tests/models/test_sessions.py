"""A training that is cut into sessions of load, fit and save goes on where it stood."""

import numpy as np
import pytest
from model_files import assert_equal_to_the_bit, parts_of, state_of, written

import gpucnn
from gpucnn import Input, Sequential, layers
from gpucnn.errors import FileError
from gpucnn.models.loading import load_model

SEEN = []


@gpucnn.register
class Seen(layers.Layer):
    """Notes the samples in the order in which training meets them."""

    def forward(self, x, step, training):
        if training:
            SEEN.extend(x[:, 0].astype(int).tolist())
        return x, lambda dy, need_dx=True: dy


@pytest.fixture
def path(tmp_path):
    """A file of a model that was compiled and not trained."""
    model = Sequential([Input((1,)), Seen(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def order_of(model):
    """The order of the samples in one epoch more."""
    SEEN.clear()
    x = np.arange(12, dtype=np.float32)[:, None]
    model.fit(x, x * 0, batch_size=4, verbose=0)
    return list(SEEN)


def test_sessions_end_where_one_fit_ends(problem, small_model, tmp_path):
    fit = {"batch_size": 20, "verbose": 0}
    whole = small_model()
    whole.fit(*problem, epochs=3, **fit)

    gpucnn.utils.set_random_seed(0)
    small_model().save(tmp_path / "m.safetensors")
    for session in range(3):
        gpucnn.utils.set_random_seed(session + 50)
        model = load_model(tmp_path / "m.safetensors")
        model.fit(*problem, **fit)
        model.save(tmp_path / "m.safetensors")
    assert_equal_to_the_bit(state_of(whole), state_of(model))


def test_each_session_sees_another_order(path):
    orders = []
    for _ in range(3):
        model = load_model(path)
        orders.append(order_of(model))
        model.save(path)
    assert len(set(map(tuple, orders))) == 3
    assert all(sorted(order) == list(range(12)) for order in orders)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_session_that_compiles_again_sees_another_order_too(path, compiled):
    orders = []
    for _ in range(2):
        model = load_model(path, compile=compiled)
        model.compile("sgd", "mse")
        orders.append(order_of(model))
        model.save(path)
    assert orders[0] != orders[1]


def test_compile_starts_the_orders_of_a_new_model_from_the_first(path):
    model = Sequential([Input((1,)), Seen(), layers.Dense(1)])
    orders = []
    for _ in range(2):
        model.compile("sgd", "mse")
        orders.append(order_of(model))
    assert orders[0] == orders[1]


@pytest.mark.parametrize("how", ["save", "interrupt"])
def test_an_epoch_that_was_cut_is_not_seen_again(path, how):
    class Cut(gpucnn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.save(path)
            raise KeyboardInterrupt

    model = load_model(path)
    with pytest.raises(KeyboardInterrupt):
        model.fit(np.arange(12.0)[:, None], np.zeros(12), batch_size=4, verbose=0, callbacks=[Cut()])
    cut = SEEN[-4:]
    assert order_of(load_model(path) if how == "save" else model)[:4] != cut


def test_dropout_goes_on_in_calls(tmp_path):
    x = np.ones((2, 50), np.float32)
    model = Sequential([Input((50,)), layers.Dropout(0.5)])
    model(x, training=True)
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    loaded.compile("sgd", "mse")
    second = model(x, training=True)
    np.testing.assert_array_equal(loaded(x, training=True), second)


def test_a_file_from_before_orders_were_kept_begins_with_the_first(path):
    model = load_model(path)
    first = order_of(model)
    model.save(path)
    document, tensors = parts_of(path)
    del document["draws"]
    assert order_of(load_model(written(path, document, tensors))) == first


NOTHING = {"seed": 0, "shuffles": 0, "calls": 0}


@pytest.mark.parametrize(
    "draws",
    [
        [],
        3,
        {},
        {**NOTHING, "more": 0},
        {**NOTHING, "shuffles": -1},
        {**NOTHING, "shuffles": True},
        {**NOTHING, "seed": 2**64},
        {**NOTHING, "calls": 2**63},
        {**NOTHING, "calls": "x"},
    ],
    ids=str,
)
def test_a_file_with_other_counts_is_refused(path, draws):
    document, tensors = parts_of(path)
    with pytest.raises(FileError, match="does not describe a model: the counts of random numbers are"):
        load_model(written(path, {**document, "draws": draws}, tensors))
