"""Models and arrays from and for other libraries: ONNX, Keras, PyTorch.

Importing it registers the suffixes, for `model.save`, `model.export` and `models.load_model`.
"""

from ..models.formats import Format, register
from . import onnx

__all__ = ["onnx"]

register(Format(".onnx", "ONNX", export=onnx.export, load=lambda path, **_: onnx.load(path)))
