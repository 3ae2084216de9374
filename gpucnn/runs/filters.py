"""Models of the zoo, and of the user, with more or fewer filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ArgumentError
from ..models.sequential import Sequential


def with_filters(model: Sequential, filters: int) -> Sequential:
    """The same model with new weights and so many filters in its first convolution; the others keep
    their ratio to it, rounded, and have at least one.

    Raises `ArgumentError` for a model without convolutions.
    """
    config = model.get_config()
    convolutions = list(_configs_of_convolutions(config["layers"]))
    if not convolutions:
        raise ArgumentError(f"filters={filters}: the model {model.name} has no convolution; leave it out")
    first = convolutions[0]["filters"]
    for convolution in convolutions:
        convolution["filters"] = max(1, round(convolution["filters"] * filters / first))
    return Sequential.from_config(config)


def _configs_of_convolutions(value: Any) -> Iterator[dict[str, Any]]:
    """The configurations with a number of filters, in the order of the layers, nested ones too."""
    if isinstance(value, dict):
        if isinstance(value.get("filters"), int):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _configs_of_convolutions(item)
