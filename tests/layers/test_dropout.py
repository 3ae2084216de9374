"""Dropout: which values are dropped and how many, again from the same seed, and again in the gradient."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from gpucnn import config, layers, random
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.dropout import dropout, scale, spatial_dropout, threshold

KEY = {"seed": 7, "stream": 3}


class DrawsItself(layers.Layer):
    """A layer of the user's own that draws random numbers by the step."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x, step, training):
        if not training:
            return x, lambda dy, need_dx=True: dy
        kept = np.random.default_rng(int(step[0])).random(x.shape) >= self.rate
        return x * kept, lambda dy, need_dx=True: dy * kept


def at(step):
    return np.array([step], np.int64)


def dropped(count, rate=0.5, step=1, **key):
    """Which of `count` values are dropped."""
    return dropout(np.ones(count), at(step), rate=rate, **{**KEY, **key}) == 0


def test_the_words_of_philox_decide():
    words = random.bits(10, seed=7, step=5, stream=3, purpose=random.DROPOUT)
    x = np.arange(1.0, 11.0).reshape(5, 2)
    y = dropout(x, at(5), rate=0.75, **KEY)
    assert np.array_equal(y, np.where(words.reshape(5, 2) < 0.75 * 2**32, 0, 4 * x))


def test_seed_7_drops_the_recorded_elements():
    """The bits are recorded because all devices and versions must drop the same elements."""
    assert "".join("01"[int(kept)] for kept in ~dropped(32)) == "10010110010010000111110000100011"


def test_a_word_at_the_threshold_is_kept():
    word = int(random.bits(1, step=1, purpose=random.DROPOUT, **KEY)[0])
    assert threshold(word / 2**32) == word
    assert not dropped(1, rate=word / 2**32)[0]
    assert dropped(1, rate=(word + 1) / 2**32)[0]


def test_the_threshold_is_the_rate_in_32_bits():
    assert threshold(0.5) == 2**31
    assert threshold(0.0) == 0
    assert threshold(1.0) == threshold(1 - 1e-12) == 2**32 - 1
    assert scale(0.75) == 4
    assert scale(1.0) == 0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate(rate):
    n = 100_000
    share = dropped(n, rate).mean()
    assert abs(share - rate) <= 5 * math.sqrt(rate * (1 - rate) / n)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_neighbours_steps_and_streams_are_independent(rate):
    n = 100_000
    first = dropped(n, rate)
    both = rate * rate
    deviation = math.sqrt(both * (1 - both) / n)
    for other in (
        np.roll(first, 1),
        np.roll(first, 4),
        dropped(n, rate, step=2),
        dropped(n, rate, stream=4),
        dropped(n, rate, seed=8),
        dropped(n, rate, seed=7 + 2**32),
    ):
        assert abs((first & other).mean() - both) <= 6 * deviation


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 50), st.floats(0.01, 0.99), st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1))
def test_whether_a_value_is_dropped_depends_on_its_index_alone(count, rate, step, seed):
    """With one seed and step, arrays of any length and shape lose the same elements."""
    whole = dropped(64, rate, step, seed=seed)
    assert np.array_equal(dropped(count, rate, step, seed=seed), whole[:count])
    cube = dropout(np.ones((4, 4, 4)), at(step), rate=rate, seed=seed, stream=3)
    assert np.array_equal(cube.reshape(-1) == 0, whole)


def test_whole_channels_are_dropped_together():
    x = np.arange(1.0, 6 * 5 * 4 + 1).reshape(6, 5, 4)
    y = spatial_dropout(x, at(1), rate=0.5, **KEY)
    lost = dropped(24).reshape(6, 1, 4)
    assert 0 < lost.sum() < 24
    assert np.array_equal(y, np.where(lost, 0, 2 * x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropped_values_are_zero_whatever_they_were(dtype):
    x = np.full((4, 8, 2), np.inf, dtype)
    for op in (dropout, spatial_dropout):
        y = op(x, at(1), rate=0.5, **KEY)
        assert y.dtype == dtype
        assert set(y.reshape(-1).tolist()) == {0, np.inf}
        assert (op(np.ones((2, 3, 2), dtype), at(1), rate=1.0, **KEY) == 0).all()


def test_the_op_is_its_own_gradient(rng):
    x, dy = rng.normal(size=(2, 20, 3)), rng.normal(size=(2, 20, 3))
    for op in (dropout, spatial_dropout):
        there, back = (op(a, at(1), rate=0.3, **KEY) for a in (x, dy))
        assert abs(np.vdot(dy, there) - np.vdot(back, x)) <= x.size * np.finfo(float).eps * np.abs(there * dy).sum()


# -- layers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Dropout(0.5), (4, 30)),
        (lambda: layers.SpatialDropout1D(0.5), (4, 5, 9)),
        (lambda: layers.SpatialDropout2D(0.5), (4, 3, 2, 9)),
        (lambda: layers.SpatialDropout3D(0.5), (4, 2, 3, 2, 9)),
    ],
)
def test_backward_drops_what_forward_dropped(make, shape):
    layer = make()
    x = np.ones(shape, np.float32)
    y, backward = layer.forward(x, at(3), True)
    assert y.shape == shape
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {0, 2}
    assert np.array_equal(backward(x), y)
    assert backward(x, need_dx=False) is None
    assert (x == 1).all()
    assert layer.flops((None, *shape[1:])) == math.prod(shape[1:])
    channels = y.reshape(shape[0], -1, shape[-1])
    assert len(shape) == 2 or (channels == channels[:, :1]).all()


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.9, False)])
def test_inference_and_rate_0_change_nothing(rate, training, rng):
    x = rng.normal(size=(3, 4)).astype(np.float32)
    y, backward = layers.Dropout(rate).forward(x, at(0), training)
    assert y is x
    assert backward(x) is x
    assert backward(x, need_dx=False) is None


def test_the_seed_comes_from_the_layer_or_from_set_random_seed():
    random.set_random_seed(11)
    assert layers.Dropout(0.5).seed == 11
    assert layers.Dropout(0.5, seed=5).seed == 5
    x = np.ones((1, 200), np.float32)

    def drawn(start, **arguments):
        random.set_random_seed(start)
        return layers.Dropout(0.5, **arguments)(x, training=True)

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    assert np.array_equal(drawn(1, seed=5), drawn(2, seed=5))


def test_two_layers_of_a_model_drop_differently():
    first, second = layers.Dropout(0.5, seed=5), layers.Dropout(0.5, seed=5)
    first.stream, second.stream = 0, 1
    x = np.ones((1, 200), np.float32)
    assert not np.array_equal(first(x, training=True), second(x, training=True))


@pytest.mark.parametrize("make", [layers.Dropout, layers.SpatialDropout1D, DrawsItself], ids=lambda c: c.__name__)
def test_each_call_in_training_drops_others_and_one_seed_gives_the_same_calls(make):
    x = np.ones((2, 3, 50), np.float32)

    def drawn():
        random.set_random_seed(4)
        layer = make(0.5)
        first = layer(x, training=True)
        layer(x)
        return first, layer(x, training=True)

    first, second = drawn()
    assert not np.array_equal(first, second)
    assert all(np.array_equal(one, other) for one, other in zip(drawn(), (first, second), strict=True))


def test_the_first_call_drops_what_step_0_drops():
    layer = layers.Dropout(0.5, seed=3)
    x = np.ones((1, 200), np.float32)
    assert np.array_equal(layer(x, training=True), layer.forward(x, at(0), True)[0])


def test_the_arguments_are_those_of_keras():
    layer = layers.SpatialDropout2D(0.3, "channels_last", 4, "drop")
    assert (layer.rate, layer.seed, layer.name) == (0.3, 4, "drop")
    assert layers.SpatialDropout1D(0.3, 4, "drop").name == "drop"
    again = config.deserialize(config.serialize(layers.SpatialDropout3D(0.2, seed=9)))
    assert (type(again), again.rate, again.seed) == (layers.SpatialDropout3D, 0.2, 9)


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: layers.Dropout(1.5), r"rate=1\.5.*share that is dropped"),
        (lambda: layers.Dropout(-0.1), r"rate=-0\.1"),
        (lambda: layers.Dropout("a"), "rate='a'"),
        (lambda: layers.Dropout(float("nan")), "rate=nan"),
        (lambda: layers.Dropout(0.5, noise_shape=(None, 1, 3)), "noise_shape.*SpatialDropout"),
        (lambda: layers.Dropout(0.5, seed=-1), "seed=-1"),
        (lambda: layers.Dropout(0.5, seed=1.5), r"seed=1\.5"),
        (lambda: layers.Dropout(p=0.5), "it is now called rate"),
        (lambda: layers.SpatialDropout2D(0.5, data_format="channels_first"), "channels_first"),
        (lambda: dropout(np.ones(2), at(0), rate=2.0, **KEY), r"rate=2\.0"),
    ],
)


test_arrays_that_do_not_fit_are_refused = refuses(
    ShapeError,
    [
        (lambda: dropout(np.ones(2), np.zeros(1), rate=0.5, **KEY), "step is an int64 array"),
        (lambda: spatial_dropout(np.ones((2, 2)), at(0), rate=0.5, **KEY), "x needs 3 axes"),
        (lambda: layers.SpatialDropout2D(0.5)(np.ones((2, 3, 4))), "needs 4 axes"),
    ],
)
