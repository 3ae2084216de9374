"""Steps that are recorded on the CPU train as steps that are run from Python, to the bit."""

import copy

import numpy as np
import pytest
from needs import numba_here
from recorded_training import OPTIMIZERS, assert_equal, both_ways, digits, small

import gpucnn
from gpucnn import callbacks, layers
from gpucnn.devices import cpu
from gpucnn.errors import TrainingError
from gpucnn.layers.layer import Layer, every
from gpucnn.models.recorded_steps import RecordedStep

pytestmark = numba_here


@pytest.fixture(autouse=True)
def replays(monkeypatch):
    """The tapes that were replayed for gradients."""
    found, gradients = [], RecordedStep.gradients

    def noted(self, batch):
        if self._gradients is not None:
            found.append(self._gradients)
        return gradients(self, batch)

    monkeypatch.setattr(RecordedStep, "gradients", noted)
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_train_as_they_do_step_by_step(monkeypatch, replays, optimizer):
    x, y = digits()
    assert_equal(*both_ways(monkeypatch, lambda: small(optimizer()), x=x, y=y, batch_size=5))
    assert len(replays) >= 4 + 7  # of two epochs all batches but the first three and the short ones


STACKS = {
    "pooled by means": lambda: [
        layers.Conv2D(4, 3, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Conv2D(5, 2, padding="same", activation="elu"),
        layers.MaxPooling2D(3, 2, padding="same"),
    ],
    "depthwise": lambda: [
        layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(6.0, negative_slope=0.1),
        layers.SeparableConv2D(6, 3, activation="sigmoid"),
        layers.GroupNormalization(2),
        layers.PReLU(),
    ],
    "two paths": lambda: [
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.Residual([layers.Conv2D(4, 3, padding="same", groups=2), layers.LeakyReLU()]),
        layers.Parallel([[layers.Conv2D(2, 1)], [layers.AveragePooling2D(1)]], merge="concatenate"),
        layers.GlobalMaxPooling2D(),
    ],
    "enlarged and cut": lambda: [
        layers.Conv2DTranspose(3, 3, strides=2, activation="softplus"),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.ZeroPadding2D(1),
        layers.Cropping2D(2),
        layers.Permute((3, 1, 2)),
        layers.LayerNormalization(),
        layers.GlobalAveragePooling2D(),
    ],
    "one axis and three": lambda: [
        layers.Resizing(6, 6),
        layers.Reshape((36, 1)),
        layers.Conv1D(4, 3, activation="relu"),
        layers.MaxPooling1D(2),
        layers.Dense(4, activation="tanh"),
        layers.Reshape((1, 17, 4, 1)),
        layers.Conv3D(2, (1, 3, 3), activation="relu"),
        layers.AveragePooling3D((1, 2, 2)),
    ],
    "random": lambda: [
        layers.Rescaling(2.0),
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomZoom(0.3),
        layers.RandomAffine(rotation_factor=0.1),
        layers.RandomContrast(0.3),
        layers.RandomCrop(7, 7),
        layers.CenterCrop(6, 6),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.SpatialDropout2D(0.3),
        layers.Dropout(0.3),
    ],
    "signals": lambda: [
        layers.Reshape((64, 1)),
        layers.ZeroPadding1D(2),
        layers.DepthwiseConv1D(3, strides=2),
        layers.SeparableConv1D(4, 3),
        layers.Conv1DTranspose(3, 2, strides=2),
        layers.Cropping1D(3),
        layers.UpSampling1D(2),
        layers.SpatialDropout1D(0.3),
        layers.AveragePooling1D(2),
        layers.ELU(),
        layers.Softmax(axis=1),
        layers.Parallel([[layers.GlobalAveragePooling1D()], [layers.GlobalMaxPooling1D()]], merge="concatenate"),
        layers.Activation("gelu"),
        layers.RepeatVector(2),
    ],
    "volumes": lambda: [
        layers.Reshape((4, 4, 4, 1)),
        layers.ZeroPadding3D(1),
        layers.Conv3DTranspose(3, 2),
        layers.Cropping3D(1),
        layers.SpatialDropout3D(0.3),
        layers.UpSampling3D(2),
        layers.MaxPooling3D(2),
        layers.Parallel([[layers.GlobalAveragePooling3D()], [layers.GlobalMaxPooling3D()]], merge="concatenate"),
    ],
    "frozen in the middle": lambda: [
        layers.Conv2D(4, 3, activation="relu"),
        layers.Conv2D(4, 3, activation="relu", trainable=False),
        layers.BatchNormalization(trainable=False),
    ],
}
"""All layers, each with its own way through Python: what a layer computes outside of ops would not be repeated."""


def test_no_layer_is_missing():
    tried = {type(layer) for stack in STACKS.values() for layer in every(stack())}
    others = {layers.Layer, layers.InputLayer, layers.Flatten}
    assert {
        kind for kind in vars(layers).values() if isinstance(kind, type) and issubclass(kind, Layer)
    } == tried | others


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_layers_train_as_they_do_step_by_step(monkeypatch, replays, stack):
    def build():
        gpucnn.utils.set_random_seed(3)
        model = gpucnn.Sequential([gpucnn.Input((8, 8, 1)), *stack(), layers.Flatten(), layers.Dense(4)])
        loss = gpucnn.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(gpucnn.optimizers.SGD(0.01, momentum=0.9, global_clipnorm=1.0), loss, metrics=["accuracy"])
        return model

    x, y = digits(dtype=np.float32)
    assert_equal(*both_ways(monkeypatch, build, x=x / 255, y=y, batch_size=6, epochs=1))
    assert len(replays) >= 3


@pytest.mark.parametrize(
    "fit",
    [
        {"class_weight": {0: 3.0, 2: 0.25}},
        {"sample_weight": np.linspace(0.1, 2.0, 36)},
        {"shuffle": False, "validation_split": 0.25},
        {"callbacks": [callbacks.TerminateOnNaN()]},
    ],
    ids=["class weights", "sample weights", "validation", "tolerant"],
)
def test_what_fit_takes_counts(monkeypatch, replays, fit):
    x, y = digits()
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, batch_size=4, **fit))
    assert replays


def test_penalties_and_constraints_count(monkeypatch, replays):
    x, y = digits()
    settings = {"kernel_regularizer": "l2", "kernel_constraint": "max_norm"}
    assert_equal(*both_ways(monkeypatch, lambda: small(**settings), x=x, y=y, batch_size=4))
    assert replays


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse", gpucnn.losses.Huber(delta=0.3, reduction="sum")])
def test_losses_of_rows_with_metrics_on_the_host(monkeypatch, replays, loss):
    x, y = digits()
    y = np.eye(4, dtype=np.float32)[y]
    assert_equal(*both_ways(monkeypatch, lambda: small(loss=loss, metrics=("mae",)), x=x, y=y, batch_size=4))
    assert replays


def test_a_generator_and_single_batches_are_replayed(monkeypatch, replays):
    x, y = digits()
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 36, 4)]
    assert_equal(*both_ways(monkeypatch, small, x=batches, batch_size=None, epochs=1))
    monkeypatch.delenv("GPUCNN_GRAPH")
    model, count = small(), len(replays)
    for batch in batches:
        model.train_on_batch(*batch)
    assert len(replays) == count + len(batches) - 2


def test_a_recording_keeps_no_hold_of_the_batch(replays):
    x, y = digits()
    model = small()
    for i in range(0, 36, 4):
        model.train_on_batch(x[i : i + 4].copy(), y[i : i + 4])
    (tape,) = set(replays)
    assert not any(array.shape[1:] == (8, 8, 1) for array in tape._recording._kept.values())


@pytest.mark.parametrize("place", [20, 34])
def test_a_loss_that_is_not_finite_leaves_the_model_as_before_that_batch(monkeypatch, place):
    outcomes = []
    for graph in ("1", "0"):
        monkeypatch.setenv("GPUCNN_GRAPH", graph)
        x, y = digits()
        x[place] = np.nan
        model = small()
        with pytest.raises(TrainingError) as error:
            model.fit(x, y, epochs=2, batch_size=5, verbose=0, shuffle=False)
        outcomes.append((str(error.value), model.get_weights(), model.optimizer.state()))
    assert f"batch {place // 5} " in outcomes[0][0]
    assert_equal(*outcomes)


def test_a_copy_of_a_model_in_training_trains_its_own_weights(replays):
    x, y = digits()
    model = small()
    model.fit(x, y, batch_size=4, verbose=0)
    other = copy.deepcopy(model)
    before = model.get_weights()
    other.fit(x, y, batch_size=4, verbose=0)
    assert all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))
    assert len(set(replays)) == 2


def test_another_algorithm_or_backend_is_not_replayed(replays):
    x, y = digits()
    model = small()
    model.fit(x, y, batch_size=4, verbose=0)
    count = len(replays)
    with gpucnn.using("numpy"):
        model.fit(x, y, batch_size=4, verbose=0)
    assert len(replays) == count
    with gpucnn.using(conv2d="reference"):
        model.fit(x, y, batch_size=4, verbose=0)
    assert len(set(replays)) == 2


def test_a_step_takes_little_more_memory_than_its_arrays_do_at_a_time(monkeypatch, replays):
    """Where each array got memory that had its very size, it took 1.6 times as much."""
    now, most = [0], [0]
    take, give = cpu.Arena.take, cpu.Arena.give

    def taken(arena, nbytes):
        now[0] += nbytes
        most[0] = max(most[0], now[0])
        return take(arena, nbytes)

    def given(arena, first, nbytes):
        now[0] -= nbytes
        give(arena, first, nbytes)

    monkeypatch.setattr(cpu.Arena, "take", taken)
    monkeypatch.setattr(cpu.Arena, "give", given)
    sizes = ((32, 1), (32, 2), (64, 1), (64, 2))
    convolutions = [layers.Conv2D(k, 3, strides=s, padding="same", activation="relu") for k, s in sizes]
    model = gpucnn.Sequential([layers.Input((16, 16, 3)), *convolutions, layers.GlobalAveragePooling2D()])
    model.compile("sgd", gpucnn.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.zeros((32, 16, 16, 3), np.float32), np.zeros(32, int), batch_size=8, verbose=0)
    assert most[0] > 1 << 20
    assert replays[-1]._arena.total_bytes < 1.25 * most[0]
