"""Keras' public namespace `models`."""

from __future__ import annotations

from .model import Sequential
from .retired import absent
from .saving import load_model

__all__ = ["Sequential", "clone_model", "load_model"]


def clone_model(model: Sequential) -> Sequential:
    """A model of the same architecture with new weights."""
    return Sequential.from_config(model.get_config())


__getattr__ = absent(
    __name__,
    {
        "Model": "use models.Sequential and stack the layers in a row",
        "Functional": "use models.Sequential and stack the layers in a row",
        "model_from_json": "use Sequential.from_config(config)",
        "save_model": "use model.save('model.safetensors')",
    },
)
