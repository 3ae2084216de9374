"""Models and arrays from and for other libraries: ONNX, Keras, PyTorch.

Importing it registers the suffixes, for `model.save`, `model.export` and `models.load_model`.
"""

from ..models.formats import Format, register
from . import keras, onnx, torch

__all__ = ["keras", "onnx", "torch"]

register(Format(".onnx", "ONNX", export=onnx.export, load=lambda path, **_: onnx.load(path)))
register(
    Format(
        ".keras",
        "Keras",
        save=keras.save,
        export=keras.save,
        load=keras.load,
        load_weights=keras.load_weights,
    )
)
register(Format(".weights.h5", "Keras' weights", save_weights=keras.save_weights, load_weights=keras.load_weights))
register(Format(".py", "PyTorch modules", export=torch.export))
