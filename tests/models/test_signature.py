"""A model file says what its outputs are called and how an image becomes its input."""

import numpy as np
import pytest
from model_files import parts_of, written

from gpucnn import Input, Sequential, layers
from gpucnn.errors import ArgumentError, DataError, FileError
from gpucnn.models.loading import load_model
from gpucnn.models.saving import load_checkpoint, save_checkpoint
from gpucnn.models.signature import Signature

RIGHT = {"classes": ["cat", "dog"], "image_shape": [4, 5, 3], "divisor": 255.0, "invert": False, "centre": True}


@pytest.fixture
def model():
    model = Sequential([Input((4, 5, 3)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.signature = Signature(["cat", "dog"], (4, 5, 3), centre=True)
    return model


def test_it_is_saved_with_the_model_and_with_a_checkpoint_as_plain_json(model, tmp_path):
    path = tmp_path / "m.safetensors"
    for save in (model.save, lambda path: save_checkpoint(path, model)):
        save(path)
        assert parts_of(path)[0]["signature"] == RIGHT
        assert load_model(path).signature == model.signature
        assert load_model(path).signature.classes == ["cat", "dog"]


def test_a_checkpoint_brings_it_back(model, tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, model)
    signature, model.signature = model.signature, None
    load_checkpoint(path, model)
    assert model.signature == signature


def test_models_without_it_are_saved_and_loaded_as_before(model, tmp_path):
    model.signature = None
    model.save(tmp_path / "m.safetensors")
    assert "signature" not in parts_of(tmp_path / "m.safetensors")[0]
    assert load_model(tmp_path / "m.safetensors").signature is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "cat"}, r"classes is 'cat' and must be list\[str\]"),
        ({"classes": ["cat", 3]}, "classes is"),
        ({"classes": ["cat"]}, "there is 1 class: two or more can be told apart"),
        ({"classes": []}, "there is 0 class"),
        ({"classes": ["cat", "dog", "fox"]}, "3 classes, and the model has 2 outputs"),
        ({"classes": ["cat", "cat"]}, "two classes are called 'cat'"),
        ({"classes": ["cat", "dog\x1b[2J"]}, r"the name 'dog\\x1b\[2J' .* cannot be printed"),
        ({"classes": ["cat", ""]}, "the name '' is empty"),
        ({"image_shape": [4, 5]}, r"image_shape is \[4, 5\]"),
        ({"image_shape": [4, 5, -3]}, "image_shape is"),
        ({"image_shape": [4, 5, 1]}, r"images of \(4, 5, 1\), and the model takes \(4, 5, 3\)"),
        ({"image_shape": [10**9, 10**9, 3]}, "the model takes"),
        ({"image_shape": [4.0, 5, 3]}, "image_shape is"),
        ({"divisor": 0}, "divisor is 0"),
        ({"divisor": -255.0}, "divisor is"),
        ({"divisor": {"float": "nan"}}, "divisor is nan"),
        ({"divisor": "255"}, r"divisor is '255' and must be float \| None"),
        ({"invert": 1}, "invert is 1 and must be bool"),
        ({"centre": "no"}, "centre is 'no'"),
        ({"command": "true"}, "command is unknown"),
    ],
)
def test_values_of_other_types_or_out_of_range_are_refused(model, tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    model.save(path)
    document, tensors = parts_of(path)
    written(path, {**document, "signature": RIGHT | change}, tensors)
    with pytest.raises(FileError, match=message) as caught:
        load_model(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [3, "cat", [], ["cat", "dog"], {}, {"classes": ["cat", "dog"]}])
def test_a_signature_that_is_incomplete_is_refused(model, tmp_path, value):
    path = tmp_path / "m.safetensors"
    model.save(path)
    document, tensors = parts_of(path)
    written(path, {**document, "signature": value}, tensors)
    with pytest.raises(FileError, match="does not describe a model"):
        load_model(path)


def test_a_model_is_not_saved_with_the_signature_of_another(model, tmp_path):
    model.signature = Signature(["cat", "dog", "fox"], (4, 5, 3))
    with pytest.raises(ArgumentError, match="3 classes, and the model has 2 outputs"):
        model.save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_8_bit_values_are_divided_and_floats_are_left_alone():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    signature = Signature(["a", "b"], (16, 16, 1))
    scaled = signature.scaled(values)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, (values.astype(np.float64) / 255).astype(np.float32))
    assert signature.scaled(scaled) is scaled


def test_a_model_of_floats_outside_0_to_1_takes_no_8_bit_values():
    signature = Signature(["a", "b"], (1, 1, 1), divisor=None)
    with pytest.raises(DataError, match=r"trained on floats .* give \.npy files of floats"):
        signature.scaled(np.zeros((1, 1, 1, 1), np.uint8))
