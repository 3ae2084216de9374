"""Keras' `models`: Sequential, models from files and copies of models."""

from ..retired import absent
from .loading import clone_model, load_model
from .sequential import Sequential

__all__ = ["Sequential", "clone_model", "load_model"]

__getattr__ = absent(
    __name__,
    {
        "Model": "use models.Sequential and stack the layers in a row",
        "Functional": "use models.Sequential and stack the layers in a row",
        "model_from_json": "use Sequential.from_config(config)",
        "save_model": "use model.save('model.safetensors')",
    },
)
