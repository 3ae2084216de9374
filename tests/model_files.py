"""Files of models, whole, damaged and written by hand."""

import json
import struct

import safetensors.numpy

from gpucnn.errors import FileError
from gpucnn.models import saving
from gpucnn.models.loading import load_model


def state_of(model):
    arrays = {weight.path: weight.value.copy() for weight in model.weights}
    arrays.update((name, array.copy()) for name, array in model.optimizer.slots(model.parameters).items())
    return arrays


def assert_equal_to_the_bit(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert array.tobytes() == second[name].tobytes(), name


def written(path, document, tensors):
    """A file with this content and the right SHA-256, as an attacker would write it."""
    document = {"format_version": saving.FORMAT_VERSION, "gpucnn": "9.9", "seeds": {}, **document}
    document["sha256"] = saving.content_sha256(document, tensors)
    path.write_bytes(safetensors.numpy.save(tensors, {"gpucnn": json.dumps(document)}))
    return path


def raw(path, header, data=b""):
    """A safetensors file with this header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def loaded_if_intact(path):
    """The model in a file, None if it is refused as it should be; other exceptions are not caught."""
    try:
        return load_model(path)
    except FileError as error:
        assert_is_one_line(error, path)
    return None


def assert_is_one_line(error, path):
    assert str(error).isprintable()
    assert str(path) in str(error)


def parts_of(path):
    """The document and the tensors of a file."""
    content = saving.read(path)
    return content.document, content.tensors
