"""Keras' public namespace `models`."""

from __future__ import annotations

from typing import Any

from .model import Sequential
from .saving import load_model

__all__ = ["Sequential", "load_model"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "Functional", "clone_model", "model_from_json"):
        raise AttributeError(f"Keras has models.{name}; gpucnn has models.Sequential only: stack the layers in a row")
    raise AttributeError(f"module 'gpucnn.models' has no attribute {name!r}")
