"""Dropout that the layer before it computes: the same values dropped, the same gradients, to the bit.

A kernel that drops what it writes multiplies the finished value by the factor that a pass of its own would
multiply it by, and the gradient multiplies dy by it and then takes or leaves it: the roundings are the same. On the
CPU a pass drops in place.
"""

import needs
import numpy as np
import pytest
from recorded_training import digits

import gpucnn
from gpucnn import Input, Sequential, layers, optimizers
from gpucnn.devices import storage
from gpucnn.dispatch import choice
from gpucnn.models import fusion
from gpucnn.models.ends import end_of

EMULATOR = pytest.param(("cuda", "emulator"), id="emulator", marks=needs.emulator_here)
CPU = pytest.param(("njit", "cpu"), id="cpu")
pytestmark = pytest.mark.xdist_group("fused-dropout")

on_the_emulator = pytest.mark.parametrize("device", [EMULATOR], indirect=True)

CONV, DENSE = ["Conv2D", "Dropout"], ["Dense", "Dropout"]


@pytest.fixture(autouse=True, params=[EMULATOR, CPU])
def device(request):
    backend, device = request.param
    gpucnn.use(backend, device=device)
    gpucnn.utils.set_random_seed(3)
    return device


def model_of(*stack, size=(8, 8, 3)):
    model = Sequential([Input(size), *stack, layers.Flatten(), layers.Dense(4, activation="softmax")])
    model.compile(optimizers.SGD(0.1, momentum=0.5), "sparse_categorical_crossentropy")
    return model


def few_channels(rate=0.2):
    """As the first layers of cifar: an image of few channels, whose gradient is not needed."""
    return [layers.Conv2D(8, 3, activation="relu"), layers.Dropout(rate)]


def products(rate=0.3):
    """Products with patches and of matrices, with sums in parts, too large for the gradients of a small layer."""
    conv = [layers.Conv2D(8, 1), layers.Conv2D(12, 3, activation="relu"), layers.Dropout(rate), layers.Flatten()]
    return [*conv, layers.Dense(4096, activation="relu"), layers.Dropout(rate)]


def nodes(*stack, **model):
    """The layers of each node, without Flatten and the last layer."""
    return [
        [type(layer).__name__ for layer in node.layers] for node in model_of(*stack, **model)._trainer.step.nodes()
    ][:-2]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (few_channels(), [CONV]),
        (products(), [["Conv2D"], CONV, ["Flatten"], DENSE]),
        ([*few_channels(), layers.MaxPooling2D(2)], [CONV, ["MaxPooling2D"]]),
        (few_channels(rate=0.0), [["Conv2D"], ["Dropout"]]),
        (few_channels(rate=1.0), [["Conv2D"], ["Dropout"]]),  # whose factor of 0 makes NaN of infinity
        ([layers.Conv2D(8, 3, activation="relu"), layers.SpatialDropout2D(0.2)], [["Conv2D"], ["SpatialDropout2D"]]),
        ([layers.Conv2D(8, 3, activation="tanh"), layers.Dropout(0.2)], [["Conv2D"], ["Dropout"]]),
        ([layers.Conv2D(8, 3), layers.Dropout(0.2)], [["Conv2D"], ["Dropout"]]),
        (
            [layers.Conv2D(8, 3, activation="relu", activity_regularizer="l2"), layers.Dropout(0.2)],
            [["Conv2D"], ["Dropout"]],
        ),
    ],
)
def test_dropout_is_part_of_the_layer_before_it_where_its_result_says_what_was_dropped(stack, expected):
    assert nodes(*stack) == expected


@on_the_emulator
def test_filters_that_the_kernel_does_not_take_are_dropped_by_a_pass(device):
    assert nodes(layers.Conv2D(5, 3, activation="relu"), layers.Dropout(0.2)) == [["Conv2D"], ["Dropout"]]


@pytest.mark.parametrize("device", [CPU], indirect=True)
@pytest.mark.parametrize(
    "stack",
    [
        [layers.Conv2D(6, 3, groups=3, activation="relu"), layers.Dropout(0.2)],
        [layers.Reshape((64, 3)), layers.Conv1D(5, 5, activation="relu"), layers.Dropout(0.2)],
        [layers.Reshape((4, 4, 4, 3)), layers.Conv3D(4, 2, activation="relu"), layers.Dropout(0.2)],
    ],
)
def test_on_the_cpu_any_convolution_drops(stack, device):
    assert nodes(*stack)[-1] == [type(layer).__name__ for layer in stack[-2:]]


@on_the_emulator
@pytest.mark.parametrize("chosen", [{"dropout": "philox"}, {"backend": "numba"}])
def test_dropout_has_a_pass_of_its_own_where_no_kernel_drops(chosen, device):
    with choice.using(**chosen):
        assert ["Dropout"] in nodes(*few_channels())


def test_dropout_has_a_pass_of_its_own_without_fusion(monkeypatch):
    monkeypatch.setenv("GPUCNN_FUSION", "0")
    assert ["Dropout"] in nodes(*few_channels())


def both_ways(train):
    """What training gives with dropout in the layer before it, and in a pass of its own; all else is the same."""
    results = []
    for chosen in ({}, {"dropout": "philox"}):
        gpucnn.utils.set_random_seed(3)
        with choice.using(**chosen):
            results.append(train())
    return results


def assert_equal(one, other):
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("make", [few_channels, products])
def test_training_is_the_same_to_the_bit(make):
    def train():
        rng, model = np.random.default_rng(5), model_of(*make())
        x = rng.standard_normal((3, 6, 8, 8, 3)).astype(np.float32)
        losses = [model.train_on_batch(batch, np.arange(6) % 4) for batch in x]
        return [losses, storage.get(model.parameters.gradients), *model.get_weights()]

    assert_equal(*both_ways(train))


def test_recorded_steps_are_the_same_to_the_bit(monkeypatch):
    x, y = digits()

    def train():
        model = model_of(*few_channels(), size=(8, 8, 1))
        history = model.fit(x / np.float32(255), y, epochs=2, batch_size=12, verbose=0).history
        return [*history.values(), *model.get_weights()]

    recorded, apart = both_ways(train)
    monkeypatch.setenv("GPUCNN_GRAPH", "0")
    step_by_step, _ = both_ways(train)
    assert_equal(recorded, apart)
    assert_equal(recorded, step_by_step)


def first_node(model):
    model.parameters.bring()
    return model._trainer.step.nodes()[0]


def test_inference_drops_and_scales_nothing(rng):
    x, dy = (storage.put(rng.standard_normal(s).astype(np.float32)) for s in ((2, 8, 8, 3), (2, 6, 6, 8)))
    results = []
    for rate in (0.2, 0.0):
        gpucnn.utils.set_random_seed(3)
        model = model_of(*few_channels(rate))
        y, backward, _ = first_node(model).forward(x, storage.put(np.array([1])), False)
        backward(dy, need_dx=False)
        results.append((storage.get(y), storage.get(model.layers[0].kernel.gradient), len(first_node(model).layers)))
    assert [layers for *_, layers in results] == [2, 1]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_part_of_a_batch_drops_what_the_whole_batch_drops_there(first, rng):
    x = rng.standard_normal((5, 8, 8, 3)).astype(np.float32)
    model, step = model_of(*few_channels()), storage.put(np.array([7]))
    node = first_node(model)
    whole = storage.get(node.forward(storage.put(x), step, True)[0])
    model.layers[1].first_sample = first
    part = storage.get(node.forward(storage.put(x[first:]), step, True)[0])
    np.testing.assert_array_equal(part, whole[first:])
    assert (whole == 0).mean() > 0.5


def test_not_a_number_and_infinity_are_dropped_or_kept_as_any_value(rng):
    x = rng.standard_normal((2, 8, 8, 3)).astype(np.float32)
    x[0, 3, 3], x[1, 4, 4, 0] = np.nan, np.inf
    dy = rng.standard_normal((2, 6, 6, 8)).astype(np.float32)
    dy[0, :, :2, 1], dy[1, :, :2, 2] = np.nan, np.inf

    def results():
        model, backwards, y = model_of(*few_channels(0.5)), [], storage.put(x)
        model.parameters.bring()
        for node in fusion.program(model.layers[:2], False):
            y, backward, _ = node.forward(y, storage.put(np.array([7])), True)
            backwards.append(backward)
        gradient = storage.put(dy)
        for backward in backwards[:0:-1]:
            gradient = backward(gradient)
        backwards[0](gradient, need_dx=False)
        return storage.get(y), storage.get(model.parameters.gradients)

    fused, apart = both_ways(results)
    assert np.isnan(fused[0]).any() and np.isinf(fused[0]).any()
    assert_equal(fused, apart)


@pytest.mark.parametrize(("width", "fused"), [(3, True), (4, False)])  # 6 · 6 and 6 · 5 windows of 5 filters
def test_a_part_of_a_batch_begins_with_words_of_its_own(width, fused):
    class ServesAll:
        has_kernel = staticmethod(lambda *_, **__: True)

    conv, drop, *_ = model_of(layers.Conv2D(5, (3, width), activation="relu"), layers.Dropout(0.2)).layers
    assert (fusion._dropping(end_of([conv, drop]), ServesAll()) is not None) == fused
