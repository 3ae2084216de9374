"""Keras' `models`: Sequential, models from files, copies of models, the ladder of sizes."""

from ..retired import absent
from .loading import clone_model, load_model
from .sequential import Sequential
from .shapes import ladder

__all__ = ["Sequential", "clone_model", "ladder", "load_model"]

__getattr__ = absent(
    __name__,
    {
        "Model": "use models.Sequential and stack the layers in a row",
        "Functional": "use models.Sequential and stack the layers in a row",
        "model_from_json": "use Sequential.from_config(config)",
        "save_model": "use model.save('model.safetensors')",
    },
)
