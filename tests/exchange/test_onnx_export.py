"""onnxruntime computes from an exported file what gpucnn computes."""

import json

import numpy as np
import pytest
from examples import BRANCHES, IMAGES, LAYERS, OBJECTS, inputs_of, model_of, random_model, randomise
from needs import onnx_here, onnxruntime_here

from gpucnn import Input, Sequential, exchange, layers
from gpucnn.errors import ArgumentError
from gpucnn.models.signature import Signature
from gpucnn.runs import zoo

pytestmark = [onnx_here, onnxruntime_here]
EXAMPLES = LAYERS | IMAGES | OBJECTS | BRANCHES


def session(path):
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, x):
    return session(path).run(None, {"input": x})[0]


def assert_agree(model, path, n=3):
    """Equal to 1e-5 of the size of the outputs."""
    model.export(path)
    x = inputs_of(model, n)
    expected, y = model.predict(x, verbose=0), run(path, x)
    assert y.shape == expected.shape and y.dtype == np.float32
    assert np.abs(y - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_layer_and_activation(name, tmp_path):
    shape, stack = EXAMPLES[name]
    assert_agree(model_of(shape, stack()), tmp_path / "m.onnx")


@pytest.mark.parametrize("name", zoo.names())
def test_every_model_of_the_zoo(name, tmp_path):
    model = zoo.find(name).build()
    randomise(model)
    for weight in model.weights:  # as large as those of a trained model
        weight.assign(weight.numpy() * 0.1)
    assert_agree(model, tmp_path / "m.onnx")


@pytest.mark.parametrize("seed", range(60))
def test_random_models(seed, tmp_path):
    assert_agree(random_model(seed), tmp_path / "m.onnx", n=1 + seed % 4)


def test_the_file_says_what_it_is(small_model, tmp_path):
    import onnx

    model = small_model()
    model.signature = Signature(["zero", "一", "two", "three"], (8, 8, 1))
    model.export(tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    assert (proto.ir_version, proto.opset_import[0].version, proto.producer_name) == (8, 17, "gpucnn")
    (x,), (y,) = session(tmp_path / "m.onnx").get_inputs(), session(tmp_path / "m.onnx").get_outputs()
    assert (x.name, x.type, x.shape) == ("input", "tensor(float)", ["N", 8, 8, 1])
    assert (y.name, y.type, y.shape) == ("output", "tensor(float)", ["N", 4])
    metadata = session(tmp_path / "m.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["zero", "一", "two", "three"]
    assert Signature.from_json(json.loads(metadata["signature"])) == model.signature
    assert "conv2d/kernel" in {tensor.name for tensor in proto.graph.initializer}


@pytest.mark.parametrize("invert", [False, True])
def test_prepare_takes_raw_images(small_model, tmp_path, rng, invert):
    model = small_model()
    model.signature = Signature(list("abcd"), (8, 8, 1), divisor=127.5, invert=invert)
    model.export(tmp_path / "m.onnx", prepare=True)
    x = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    (images,) = session(tmp_path / "m.onnx").get_inputs()
    assert images.type == "tensor(uint8)"
    expected = model.predict(model.signature.scaled(255 - x if invert else x), verbose=0)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (None, "the model has no signature"),
        (Signature(list("abcd"), (8, 8, 1), divisor=None), "was trained on floats"),
        (Signature(list("abcd"), (8, 8, 1), centre=True), "which ONNX cannot express"),
    ],
)
def test_a_preparation_that_cannot_be_exported_is_refused(small_model, tmp_path, signature, words):
    model = small_model()
    model.signature = signature
    with pytest.raises(ArgumentError, match=words):
        model.export(tmp_path / "m.onnx", prepare=True)
    assert list(tmp_path.iterdir()) == []


def test_layers_and_functions_of_the_user_are_refused_by_name(tmp_path):
    class Double(layers.Conv2D):
        pass

    for layer, words in [
        (Double(2, 2, name="mine"), r"the layer mine \(Double\) cannot be written as ONNX"),
        (layers.Conv2D(2, 2, activation=lambda x: (x, lambda dy: dy), name="own"), r"own: the activation .*<lambda>"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            Sequential([Input((4, 4, 1)), layer]).export(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_weights_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="no weights yet"):
        Sequential([layers.Dense(3)]).export(tmp_path / "m.onnx")


def test_an_unknown_suffix_or_format_is_refused_with_those_that_work(small_model, tmp_path):
    model = small_model()
    for arguments in [(tmp_path / "m.tflite",), (tmp_path / "m.onnx", "tf_saved_model"), (tmp_path / "m",)]:
        with pytest.raises(ArgumentError, match=r"the suffix says the format; use \.onnx"):
            model.export(*arguments)


def test_an_unknown_option_is_refused_with_those_that_exist(small_model, tmp_path):
    with pytest.raises(ArgumentError, match=r"export\(\) has no argument dtype='half': .* prepare"):
        small_model().export(tmp_path / "m.onnx", dtype="half")


def test_two_exports_of_a_model_are_equal(small_model, tmp_path):
    model = small_model()
    for name in ("a.onnx", "b.onnx"):
        exchange.onnx.export(model, tmp_path / name)
    first, second = (session(tmp_path / name) for name in ("a.onnx", "b.onnx"))
    x = inputs_of(model)
    np.testing.assert_array_equal(first.run(None, {"input": x})[0], second.run(None, {"input": x})[0])


def test_the_suffix_is_enough_to_refuse_saving(small_model, tmp_path):
    with pytest.raises(ArgumentError, match=r"this does not work with files of ONNX; write model\.export\("):
        small_model().save(tmp_path / "m.onnx")
