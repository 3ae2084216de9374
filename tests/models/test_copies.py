"""copy.deepcopy and pickle: copies that equal the original to the bit and train on their own."""

import copy
import pickle

import needs
import numpy as np
import pytest
from custom_layer import Scale
from model_files import assert_equal_to_the_bit, state_of

import gpucnn
from gpucnn import Input, Sequential, callbacks, constraints, initializers, layers, losses, metrics, optimizers
from gpucnn.errors import ArgumentError
from gpucnn.models.saving import load_checkpoint, save_checkpoint, weights_sha256

WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}
each_way = pytest.mark.parametrize("copied", WAYS.values(), ids=WAYS)

LAYERS = {
    "Dense": (lambda: layers.Dense(3, "gelu", kernel_regularizer="l2", bias_constraint="non_neg"), (4,)),
    "Conv1D": (lambda: layers.Conv1D(2, 3, padding="causal", dilation_rate=2), (8, 3)),
    "Conv2D": (lambda: layers.Conv2D(4, (3, 2), strides=2, groups=2, activation="relu"), (8, 8, 2)),
    "Conv3D": (lambda: layers.Conv3D(2, 2, kernel_initializer=initializers.HeNormal(seed=3)), (4, 4, 4, 1)),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 2)),
    "BatchNormalization": (lambda: layers.BatchNormalization(momentum=0.5), (5,)),
    "Dropout": (lambda: layers.Dropout(0.5, seed=3), (9,)),
    "SpatialDropout2D": (lambda: layers.SpatialDropout2D(0.5), (3, 3, 8)),
    "MaxPooling2D": (lambda: layers.MaxPooling2D(3, 2, "same"), (7, 7, 2)),
    "AveragePooling1D": (lambda: layers.AveragePooling1D(2), (6, 2)),
    "GlobalMaxPooling3D": (lambda: layers.GlobalMaxPooling3D(keepdims=True), (2, 2, 2, 3)),
    "ZeroPadding2D": (lambda: layers.ZeroPadding2D(((1, 2), (0, 1))), (3, 3, 1)),
    "Reshape": (lambda: layers.Reshape((2, -1)), (8,)),
    "Permute": (lambda: layers.Permute((2, 1)), (2, 3)),
    "Flatten": (layers.Flatten, (2, 3)),
    "LeakyReLU": (lambda: layers.LeakyReLU(0.2), (4,)),
    "Activation": (lambda: layers.Activation("softmax"), (4,)),
    "Rescaling": (lambda: layers.Rescaling(1 / 255, offset=-0.5), (4,)),
    "Scale": (Scale, (4,)),
}


@each_way
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("within", [False, True], ids=["alone", "of a model"])
def test_a_layer(copied, name, within, rng):
    make, shape = LAYERS[name]
    layer = make()
    if within:
        Sequential([Input(shape), layer]).parameters  # noqa: B018 - its weights now lie in the model's flat array
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    expected = layer(x)
    other = copied(layer)
    assert other.get_config() == layer.get_config()
    np.testing.assert_array_equal(other(x), expected)
    np.testing.assert_array_equal(other(x, training=True), layer(x, training=True))
    assert [weight.path for weight in other.weights] == [weight.path for weight in layer.weights]
    for mine, its in zip(layer.weights, other.weights, strict=True):
        assert its.home is None
        its.assign(np.zeros(its.shape))
        assert mine.numpy().any() or not mine.size or mine.name in ("bias", "beta", "moving_mean")
    np.testing.assert_array_equal(layer(x), expected)


@each_way
def test_a_layer_that_is_not_built(copied):
    layer = copied(layers.Dense(3, name="mine"))
    assert (layer.units, layer.name, layer.built) == (3, "mine", False)
    assert Sequential([Input((2,)), layer]).count_params() == 9


@each_way
def test_a_model_trains_on_as_the_original_would(copied, problem, small_model):
    fit = {"batch_size": 20, "verbose": 0}
    model = small_model(optimizers.Adam(0.01, use_ema=True), metrics=("accuracy", "acc"))
    model.fit(*problem, **fit)
    model(problem[0], training=True)
    other = copied(model)
    before = state_of(model)
    assert_equal_to_the_bit(state_of(other), before)
    ended = other.fit(*problem, **fit)
    assert_equal_to_the_bit(state_of(model), before)
    expected = model.fit(*problem, **fit)
    assert_equal_to_the_bit(state_of(other), state_of(model))
    assert ended.history == expected.history
    np.testing.assert_array_equal(other(problem[0], training=True), model(problem[0], training=True))
    assert other.optimizer is not model.optimizer
    assert other.history.model is other


@each_way
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_that_was_never_trained(copied, compiled, problem, small_model):
    model = small_model() if compiled else Sequential([layers.Flatten(), layers.Dense(4)], name="bare")
    other = copied(model)
    assert (other.name, other.compiled, other.built) == (model.name, model.compiled, model.built)
    if compiled:
        other.fit(*problem, verbose=0)
        model.fit(*problem, verbose=0)
        assert weights_sha256(other) == weights_sha256(model)


@each_way
def test_weights_left_out_of_the_decay_stay_so(copied, problem):
    model = Sequential([Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, activation="softmax")])
    model.compile(optimizers.AdamW(0.01, weight_decay=0.5), "sparse_categorical_crossentropy")
    model.optimizer.exclude_from_weight_decay([model.weights[0]])
    other = copied(model)
    for each in (model, other):
        each.fit(*problem, verbose=0)
    assert_equal_to_the_bit(state_of(other), state_of(model))


class Named(Sequential):
    def __init__(self, layers, owner):
        super().__init__(layers)
        self.owner = owner


@each_way
def test_a_subclass_with_attributes_of_its_own(copied):
    other = copied(Named([Input((2,)), layers.Dense(1)], owner={"who": ["me"]}))
    assert type(other) is Named
    assert other.owner == {"who": ["me"]}
    assert other.predict(np.ones((1, 2)), verbose=0).shape == (1, 1)


@each_way
def test_the_state_of_callbacks_comes_along_and_the_callbacks_do_not(copied, problem, small_model, tmp_path):
    class Holds(callbacks.Callback):
        """What no copy can hold."""

        def __init__(self):
            self.file = open(tmp_path / "held", "w")  # noqa: SIM115

        def get_state(self):
            return {"seen": 3}

    stop = callbacks.EarlyStopping("loss", patience=7, restore_best_weights=True)
    model = small_model()
    holds = Holds()
    model.fit(*problem, epochs=2, verbose=0, callbacks=[stop, holds])
    holds.file.close()
    other = copied(model)
    for each, name in ((model, "a"), (other, "b")):
        save_checkpoint(tmp_path / f"{name}.safetensors", each)
        load_checkpoint(tmp_path / f"{name}.safetensors", each)
    states = [each.training_state.callbacks for each in (model, other)]
    assert repr(states[0]) == repr(states[1])
    assert states[0]["Holds"] == [{"seen": 3}]


@each_way
@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(0.1, momentum=0.9),
        lambda: optimizers.Nadam(optimizers.schedules.CosineDecay(0.1, 10)),
        lambda: optimizers.RMSprop(0.1, clipnorm=1.0),
    ],
)
def test_an_optimizer_alone_is_a_new_one_for_another_model(copied, make, problem, small_model):
    optimizer = make()
    model = small_model(optimizer)
    model.fit(*problem, verbose=0)
    other = copied(optimizer)
    assert other.get_config() == optimizer.get_config()
    gpucnn.utils.set_random_seed(0)
    second = small_model(other)
    second.fit(*problem, verbose=0)
    assert weights_sha256(second) == weights_sha256(model)


@each_way
@pytest.mark.parametrize(
    "thing",
    [
        losses.Huber(0.5),
        losses.get("crossentropy"),
        metrics.SparseTopKCategoricalAccuracy(2),
        metrics.BinaryCrossentropy(label_smoothing=0.1),
        initializers.TruncatedNormal(seed=2),
        constraints.MaxNorm(0.5),
        gpucnn.regularizers.L1L2(0.1, 0.2),
        gpucnn.activations.get("leaky_relu"),
        optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.2]),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_everything_else_that_a_file_can_describe(copied, thing):
    other = copied(thing)
    assert type(other) is type(thing)
    assert other.get_config() == thing.get_config()


@needs.emulator_here
@each_way
def test_a_model_on_a_device_and_its_copy_on_the_host(copied, problem, small_model):
    x, y = problem[0][:16], problem[1][:16]
    gpucnn.use("cuda", device="emulator")
    model = small_model()
    model.fit(x, y, batch_size=8, verbose=0)
    expected = model.predict(x, verbose=0)
    other = copied(model)
    np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
    gpucnn.use("auto", device="cpu")
    other.fit(x, y, batch_size=8, verbose=0)
    gpucnn.use("cuda", device="emulator")
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_a_shallow_copy_of_a_model_is_refused(small_model):
    with pytest.raises(ArgumentError, match=r"would share .*copy\.deepcopy\(model\), .*models\.clone_model\(model\)"):
        copy.copy(small_model())


def test_a_shallow_copy_of_a_layer_shares_its_weights():
    layer = layers.Dense(2)
    layer(np.ones((1, 3)))
    assert copy.copy(layer).weights[0] is layer.weights[0]
