"""Batches that one process computes in parts.

Where every product and sum is exact in float32, the order of summation does not matter: parts must
give the bits of the whole batch. Such are integers in few bits, batches and rates that are powers
of two, and a dropout of one half.
"""

import json

import numpy as np
import pytest
from command import FAST, gpucnn
from needs import emulator_here

from gpucnn import Sequential, distributed, layers, losses, random
from gpucnn.errors import ArgumentError
from gpucnn.initializers import Initializer
from gpucnn.optimizers import SGD

SAMPLES = 24
RANDOM = np.random.default_rng(5)
X = RANDOM.integers(-2, 3, (SAMPLES, 6, 6, 2)).astype(np.float32)
Y = RANDOM.integers(-2, 3, (SAMPLES, 3)).astype(np.float32)
WEIGHTS = 2.0 ** RANDOM.integers(-1, 2, SAMPLES).astype(np.float32)


@pytest.fixture
def parts():
    """A function that starts a group of one process with so many parts."""
    yield lambda count: distributed.start(parts=count)
    distributed.stop()


class FewBits(Initializer):
    """Start values of -1, 0 and 1."""

    def __call__(self, shape, dtype=None):
        return (np.arange(np.prod(shape)).reshape(shape) % 3 - 1).astype(np.float32)


def exact_stack(activity_regularizer=None):
    return [
        layers.RandomFlip("horizontal_and_vertical"),
        layers.Conv2D(2, 3, activation="relu", kernel_initializer=FewBits(), activity_regularizer=activity_regularizer),
        layers.SpatialDropout2D(0.5),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(3, kernel_initializer=FewBits()),
    ]


def trained(stack=exact_stack, weight=None, loss="sum", batch_size=16, samples=SAMPLES, **fit):
    random.set_random_seed(3)
    model = Sequential(stack())
    chosen = losses.MeanSquaredError(reduction=loss) if isinstance(loss, str) else loss
    model.compile(SGD(2.0**-6), chosen, metrics=["mae"], weighted_metrics=["mse"])
    history = model.fit(X[:samples], Y[:samples], sample_weight=weight, batch_size=batch_size, verbose=0, **fit)
    return model, history.history


def squares(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).sum(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("samples", [16, 8])
@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["", "weighted"])
def test_a_step_of_parts_is_the_step_of_the_whole_batch_bit_for_bit(parts, count, samples, weight):
    weight = None if weight is None else weight[:samples]
    whole, history = trained(weight=weight, loss=squares, samples=samples)
    parts(count)
    model, in_parts = trained(weight=weight, loss=squares, samples=samples)
    assert in_parts == history
    for one, other in zip(whole.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(model.get_weights()[0], FewBits()((3, 3, 2, 2)))


def test_the_penalty_of_activities_is_that_of_the_whole_batch(parts):
    def stack():
        return exact_stack("l2")

    _, history = trained(stack, loss=squares, batch_size=8)
    parts(3)
    _, in_parts = trained(stack, loss=squares, batch_size=8)
    np.testing.assert_allclose(in_parts["loss"], history["loss"], rtol=16 * 2.0**-24)  # 0.01 rounds, as do its sums
    assert in_parts["loss"] != trained(loss=squares, batch_size=8)[1]["loss"]


def test_the_mean_weighted_by_samples_divides_by_the_weights_of_the_whole_batch(parts):
    loss = "mean_with_sample_weight"
    weight = np.repeat(np.float32([1, 3]), 12)[RANDOM.permutation(SAMPLES)]
    weight[16:] = [1, 1, 1, 1, 3, 3, 3, 3]
    _, history = trained(weight=weight, loss=loss, shuffle=False)
    parts(3)
    _, in_parts = trained(weight=weight, loss=loss, shuffle=False)
    np.testing.assert_allclose(in_parts["loss"], history["loss"], rtol=32 * 2.0**-24)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.4),
        layers.SpatialDropout2D(0.4),
        layers.RandomAffine(0.2, 0.2, 0.2, 0.2, "horizontal"),
        layers.RandomCrop(4, 3),
        layers.RandomContrast(0.5, value_range=(-2, 2)),
    ],
    ids=lambda layer: layer.name,
)
def test_the_random_numbers_of_an_image_do_not_depend_on_its_part(layer):
    step = np.array([7], np.int64)
    whole, _ = layer.forward(X, step, True)
    for start, stop in ((0, 5), (5, 6), (6, SAMPLES)):
        layer.first_sample = start
        part, backward = layer.forward(X[start:stop], step, True)
        assert np.array_equal(part, whole[start:stop])
        if isinstance(layer, layers.Dropout):
            assert np.array_equal(backward(X[start:stop]), part)
    layer.first_sample = 0
    assert not np.array_equal(layer.forward(X[5:], step, True)[0], whole[5:])


@pytest.mark.parametrize("layer", [layers.Dropout(0.4), layers.SpatialDropout2D(0.4), layers.RandomContrast(0.5)])
def test_a_part_late_in_a_batch_takes_no_more_memory_than_the_first(layer):
    layer.first_sample = 2**31 + 5
    try:
        part, _ = layer.forward(X, np.array([7], np.int64), True)
    finally:
        layer.first_sample = 0
    assert part.shape == X.shape and not np.array_equal(part, X)


def test_batch_normalization_follows_the_mean_of_its_parts_weighted_by_their_samples(parts):
    def stack():
        return [layers.BatchNormalization(momentum=0.5), layers.Flatten(), layers.Dense(3)]

    parts(3)
    model, _ = trained(stack, batch_size=SAMPLES, shuffle=False)
    moving_mean, moving_variance = model.layers[0].get_weights()[2:]
    cuts = [X[start : start + 8].reshape(-1, 2).astype(np.float64) for start in (0, 8, 16)]
    np.testing.assert_allclose(moving_mean, 0.5 * np.mean([c.mean(0) for c in cuts], axis=0), rtol=0, atol=1e-6)
    variance = np.mean([c.var(0) for c in cuts], axis=0)
    np.testing.assert_allclose(moving_variance, 0.5 + 0.5 * variance, rtol=1e-6)
    assert abs(variance - X.reshape(-1, 2).var(0)).max() > 1e-3


def test_after_training_in_parts_layers_work_as_before(parts):
    parts(3)
    model, _ = trained()
    assert all(layer.first_sample == 0 for layer in model.layers)


class Counter(layers.Layer):
    """A layer of a user with a state of its own."""

    def forward(self, x, step, training):
        return x, lambda dy, need_dx=True: dy

    def update(self):
        self.count = getattr(self, "count", 0) + 1


def test_what_cannot_be_computed_in_parts_is_refused(parts):
    parts(2)
    with pytest.raises(ArgumentError, match=r"counter .* has an update of its own state"):
        trained(lambda: [Counter(), *exact_stack()])
    random.set_random_seed(3)
    model = Sequential(exact_stack())
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="cannot share a generator of batches: give arrays"):
        model.fit((part for part in [(X, Y)]), verbose=0)
    with pytest.raises(ArgumentError, match="called before: call it once"):
        distributed.start()


def test_parts_must_be_a_count():
    with pytest.raises(ArgumentError, match="parts=0"):
        distributed.start(parts=0)
    assert distributed.group() is None


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_a_launcher_without_mpi4py_is_answered_with_the_extra(monkeypatch, variable):
    import sys

    monkeypatch.setenv(variable, "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ArgumentError, match=r"2 processes were started .* pip install 'gpucnn\[mpi\]'"):
        distributed.start()


def test_training_on_one_batch_computes_parts_too(parts):
    def model():
        random.set_random_seed(3)
        model = Sequential(exact_stack())
        model.compile(SGD(2.0**-6), squares)
        model.train_on_batch(X[:16], Y[:16])
        return model.get_weights()

    whole = model()
    parts(3)
    for one, other in zip(whole, model(), strict=True):
        assert np.array_equal(one, other)


def test_the_command_trains_in_parts_and_repeats_it(tmp_path):
    hashes = []
    for name in ("one", "two"):
        done = gpucnn("train", *FAST, "--parts", 3, "--json", "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
        hashes.append(json.loads(done.stdout)["weights_sha256"])
        assert json.loads(done.stdout)["settings"]["parts"] == 3
        assert distributed.group() is None
    assert hashes[0] == hashes[1]


def test_a_resumed_run_is_cut_into_the_parts_it_began_with(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = gpucnn("train", *FAST, "--epochs", 2, "--parts", 3, "--json", "--out", whole)
    gpucnn("train", *FAST, "--parts", 3, "--out", run)
    resumed = gpucnn("train", "--resume", run, "--epochs", 2, "--no-pictures", "--json")
    assert json.loads(resumed.stdout)["weights_sha256"] == json.loads(done.stdout)["weights_sha256"]
    assert "warning" not in resumed.stderr


def test_two_sizes_of_a_batch_are_refused():
    done = gpucnn("train", "--batch-size", 8, "--batch-size-per-rank", 4)
    assert done.exit_code == 2 and "--batch-size and --batch-size-per-rank are both given" in done.stderr


@emulator_here
def test_another_device_is_refused_before_any_work(tmp_path):
    done = gpucnn("train", "--parts", 2, "--device", "emulator", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "train on the CPU alone so far" in done.stderr
    assert not (tmp_path / "run").exists()
