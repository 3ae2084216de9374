"""Keras computes from a file of gpucnn what gpucnn computes, and gpucnn from a file of Keras what Keras computes."""

import os

import numpy as np
import pytest
from examples import BRANCHES, IMAGES, LAYERS, inputs_of, model_of, random_model, randomise
from needs import h5py_here, keras_here

from gpucnn import models
from gpucnn.runs import zoo

pytestmark = [
    h5py_here,
    keras_here,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer"),  # whose state is not in the file
]


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras


def assert_close(y, expected):
    y = y.detach().cpu().numpy() if hasattr(y, "detach") else np.asarray(y)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


def assert_both_ways(keras, model, folder):
    x = inputs_of(model)
    expected = model.predict(x, verbose=0)
    model.save(folder / "ours.keras")
    theirs = keras.saving.load_model(folder / "ours.keras")
    assert_close(theirs(x, training=False), expected)
    theirs.save(folder / "theirs.keras")
    assert_close(models.load_model(folder / "theirs.keras").predict(x, verbose=0), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_both_ways(keras, name, tmp_path):
    if name in ("average1d", "average2d_same") and keras.backend.backend() == "torch":
        pytest.skip("on PyTorch, Keras counts the padding of a mean: KERAS_BACKEND=jax")
    shape, stack = LAYERS[name]
    assert_both_ways(keras, model_of(shape, stack()), tmp_path)


@pytest.mark.parametrize("name", BRANCHES)
def test_branches_both_ways(keras, name, tmp_path):
    shape, stack = BRANCHES[name]
    model = model_of(shape, stack())
    assert_both_ways(keras, model, tmp_path)
    again = models.load_model(tmp_path / "theirs.keras")
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    model.save_weights(tmp_path / "ours.weights.h5")
    theirs = keras.saving.load_model(tmp_path / "ours.keras")
    for weight in theirs.weights:
        weight.assign(np.zeros(tuple(weight.shape)))
    theirs.load_weights(tmp_path / "ours.weights.h5")
    x = inputs_of(model)
    assert_close(theirs(x, training=False), model.predict(x, verbose=0))


@pytest.mark.parametrize("name", ["augmentation", "crop"])
def test_layers_of_images_both_ways(keras, name, tmp_path):
    shape, stack = IMAGES[name]
    assert_both_ways(keras, model_of(shape, stack()), tmp_path)


def test_a_layer_that_keras_lacks_is_written_as_those_that_do_the_same(keras, tmp_path):
    shape, stack = IMAGES["affine"]
    assert_both_ways(keras, model_of(shape, stack()), tmp_path)
    names = [type(layer).__name__ for layer in keras.saving.load_model(tmp_path / "ours.keras").layers]
    assert names == ["RandomRotation", "RandomTranslation", "RandomZoom", "RandomFlip", "Conv2D"]


@pytest.mark.parametrize("seed", range(12))
def test_random_models_both_ways(keras, seed, tmp_path):
    assert_both_ways(keras, random_model(seed), tmp_path)


@pytest.mark.parametrize("name", zoo.names())
def test_models_of_the_zoo_both_ways(keras, name, tmp_path):
    model = zoo.find(name).build()
    randomise(model)
    for weight in model.weights:
        weight.assign(weight.numpy() * 0.1)
    assert_both_ways(keras, model, tmp_path)


def test_weights_both_ways(keras, small_model, tmp_path):
    model = small_model()
    randomise(model)
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    theirs = keras.saving.load_model(tmp_path / "m.keras")
    for weight in theirs.weights:
        weight.assign(np.zeros(tuple(weight.shape)))
    theirs.load_weights(tmp_path / "m.weights.h5")
    for weight, original in zip(theirs.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, original)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    other = small_model()
    other.load_weights(tmp_path / "theirs.weights.h5")
    for weight, original in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, original)


@pytest.mark.filterwarnings("ignore:.*applies softmax itself")
def test_what_compile_said_goes_both_ways(keras, small_model, problem, tmp_path):
    import gpucnn
    from gpucnn.optimizers import schedules

    x, y = problem
    rate = schedules.ExponentialDecay(0.1, 10, 0.9)
    loss = gpucnn.losses.SparseCategoricalCrossentropy(from_logits=True)
    for optimizer in (gpucnn.optimizers.SGD(rate, momentum=0.5), gpucnn.optimizers.AdamW(0.01, weight_decay=0.1)):
        model = small_model(optimizer, loss, ["accuracy", gpucnn.metrics.SparseTopKCategoricalAccuracy(k=2)])
        model.save(tmp_path / "ours.keras")
        theirs = keras.saving.load_model(tmp_path / "ours.keras")
        theirs.save(tmp_path / "theirs.keras")
        again = models.load_model(tmp_path / "theirs.keras")
        values = [m.evaluate(x, y, verbose=0) for m in (model, theirs, again)]
        np.testing.assert_allclose(values[1], values[0], rtol=1e-5)
        np.testing.assert_allclose(values[2], values[0], rtol=1e-5)
        assert type(again.optimizer) is type(optimizer)
        config = again.optimizer.get_config()
        for name, value in optimizer.get_config().items():
            config_of_object = value["config"] if isinstance(value, dict) else {}
            stated = config[name]["config"] if isinstance(value, dict) else config[name]
            for key in config_of_object:
                assert stated[key] == pytest.approx(config_of_object[key])
            assert config_of_object or stated == pytest.approx(value)


def test_a_functional_model_of_one_path_is_read(keras, tmp_path):
    inputs = keras.Input((6, 6, 2))
    y = keras.layers.Conv2D(3, 3, activation="relu")(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(y, training=False))
    keras.Model(inputs, outputs).save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.Model(inputs, outputs)(x))
    assert_close(models.load_model(tmp_path / "m.keras").predict(x, verbose=0), expected)


def graphs(keras):
    """Functional models as users write them."""
    layers = keras.layers

    def shared_steps(y, filters, stride):
        shortcut = layers.Conv2D(filters, 1, strides=stride)(y) if stride > 1 else y
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, strides=stride, padding="same")(y)))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        return layers.Activation("relu")(layers.add([y, shortcut]))

    x = keras.Input((8, 8, 3))
    y = shared_steps(shared_steps(layers.Conv2D(4, 3, padding="same")(x), 4, 1), 6, 2)
    yield "resnet", keras.Model(x, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(y)))
    y = x
    for _ in range(3):
        y = layers.Concatenate()([y, layers.Conv2D(2, 3, padding="same", activation="relu")(y)])
    yield "densenet", keras.Model(x, layers.Flatten()(y))
    deep = layers.Conv2D(4, 3, padding="same", name="bottom")(layers.MaxPooling2D()(y))
    up = layers.Conv2DTranspose(3, 2, strides=2)(deep)
    yield "u-net", keras.Model(x, layers.Conv2D(1, 1)(layers.Concatenate(axis=3)([y, up])))
    towers = [layers.Conv2D(2, size, padding="same")(x) for size in (1, 3, 5)]
    pooled = layers.Conv2D(2, 1)(layers.MaxPooling2D(3, strides=1, padding="same")(x))
    yield "inception", keras.Model(x, layers.Concatenate()([*towers, pooled]))
    yield "sum of three", keras.Model(x, layers.Add()([x, layers.ReLU()(x), layers.Conv2D(3, 1)(x)]))


def test_functional_models_with_branches_are_read(keras, tmp_path):
    for name, model in graphs(keras):
        rng = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(rng.uniform(0.1, 0.6, tuple(weight.shape)))
        model.save(tmp_path / "m.keras")
        x = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
        expected = keras.ops.convert_to_numpy(model(x, training=False))
        loaded = models.load_model(tmp_path / "m.keras")
        assert_close(loaded.predict(x, verbose=0), expected), name


def test_other_branches_and_foreign_layers_are_refused_by_name(keras, tmp_path):
    layers = keras.layers
    inputs = keras.Input((4,))
    branch = layers.Dense(4, name="first")(inputs)
    twice = layers.Dense(4, name="twice")
    graphs = {
        r"its layer gate \(Multiply\) merges branches in its own way: Add, and Concatenate of channels": keras.Model(
            inputs, layers.Multiply(name="gate")([inputs, branch])
        ),
        r"it has 2 outputs": keras.Model(inputs, [branch, layers.Dense(2)(inputs)]),
        r"it has 2 inputs": keras.Model([inputs, other := keras.Input((4,))], layers.Add()([inputs, other])),
        r"its layer first is on paths that cross": keras.Model(
            inputs, layers.Add()([branch, layers.Add()([inputs, branch])])
        ),
        r"its layer add\w* merges a tensor with itself": keras.Model(inputs, layers.Add()([inputs, inputs])),
        r"its layer twice \(Dense\) is called 2 times": keras.Model(inputs, twice(twice(inputs))),
        r"along axis 1: channels are merged": keras.Model(
            image := keras.Input((3, 4, 2)), layers.Concatenate(axis=1)([image, layers.ReLU()(image)])
        ),
        r"its layer gru \(GRU\) is not in gpucnn: .*use Conv1D, pooling and Dense": keras.Sequential(
            [keras.Input((3, 4)), layers.GRU(2)]
        ),
        r"its layer mine \(Lambda\) holds code": keras.Sequential(
            [inputs, layers.Lambda(lambda x: x + 1, name="mine")]
        ),
        r"its layer inner \(Sequential\) is a model inside": keras.Sequential(
            [keras.Input((4,)), keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="inner")]
        ),
        r"must be fixed": keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)]),
        r"computes in mixed_float16": keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="mixed_float16")]),
    }
    for words, model in graphs.items():
        model.save(tmp_path / "m.keras")
        with pytest.raises(OSError, match=words):
            models.load_model(tmp_path / "m.keras")


def test_settings_that_gpucnn_lacks_are_named_in_a_warning(keras, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adafactor", "mse")
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match=r"without what compile said: its optimizer uses Adafactor, which gpucnn"):
        loaded = models.load_model(tmp_path / "m.keras")
    assert not loaded.compiled
    assert not models.load_model(tmp_path / "m.keras", compile=False).compiled
