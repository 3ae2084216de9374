"""The translations of models with which the benchmarks compare gpucnn."""

import sys

import numpy as np
import pytest
from places import ROOT

from gpucnn import Sequential, layers
from gpucnn.runs import translations

sys.path.insert(0, str(ROOT / "bench"))

from translations import as_onnx

SHAPES = {
    "images": (
        (9, 8, 4),
        [
            layers.Conv2D(6, 3, strides=2, padding="same", activation="tanh"),
            layers.BatchNormalization(),
            layers.Activation("silu"),
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="elu"),
            layers.Conv2D(8, 2, groups=2, dilation_rate=2, use_bias=False),
            layers.MaxPooling2D(2, strides=1, padding="same"),
            layers.AveragePooling2D((2, 1)),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(7, activation="gelu"),
            layers.Dense(5, activation="softmax"),
        ],
    ),
    "sequences": (
        (20, 3),
        [
            layers.Conv1D(4, 3, padding="causal", activation="sigmoid"),
            layers.MaxPooling1D(2),
            layers.GlobalAveragePooling1D(),
            layers.Dense(5, activation="softmax"),
        ],
    ),
    "volumes": (
        (6, 5, 4, 2),
        [layers.Conv3D(5, 2, activation="relu"), layers.GlobalMaxPooling3D(), layers.Activation("softmax")],
    ),
}


@pytest.fixture(params=SHAPES, scope="module")
def model(request):
    shape, parts = SHAPES[request.param]
    model = Sequential([layers.Input(shape), *parts])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5 if weight.name == "moving_variance" else -0.5, 1, weight.shape))
    return model


@pytest.fixture
def x(model):
    return np.random.default_rng(1).random((4, *model.input_shape[1:]), np.float32)


def agree(probabilities, model, x):
    np.testing.assert_allclose(probabilities, model.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


def test_the_translation_to_pytorch_computes_the_same(model, x):
    torch = pytest.importorskip("torch")
    net = translations.as_torch(model).eval()
    with torch.no_grad():
        agree(net(torch.from_numpy(translations.channels_first(x))).softmax(1).numpy(), model, x)


def test_the_translation_to_jax_computes_the_same(model, x):
    jax = pytest.importorskip("jax")
    forward, weights = translations.as_jax(model)
    logits, after = forward(weights, x)
    agree(np.asarray(jax.nn.softmax(logits)), model, x)
    assert all(np.array_equal(a, b) for layer in zip(weights, after, strict=True) for a, b in zip(*layer, strict=True))


def test_the_translation_to_onnx_computes_the_same(model, x):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(as_onnx(model), providers=["CPUExecutionProvider"])
    agree(session.run(None, {"x": translations.channels_first(x)})[0], model, x)


def test_a_layer_without_translation_is_named():
    pytest.importorskip("torch")
    for part in (layers.Permute((2, 1)), layers.Activation("mish"), layers.SeparableConv1D(4, 2)):
        with pytest.raises(translations.Untranslated, match=part.name):
            translations.as_torch(Sequential([layers.Input((3, 2)), part]))
