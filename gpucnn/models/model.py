"""What files, summaries, pictures and the trainer need of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ..callbacks import History
from ..dispatch import choice
from ..layers.layer import Layer, Weight
from ..layers.parameters import Parameters
from .signature import Signature
from .state import TrainingState


class Model(Protocol):
    """A stack of layers that may be compiled; `Sequential` is one.

    It lies apart from `Sequential`, so that what `Sequential` uses can take a model without
    importing it.
    """

    name: str
    layers: list[Layer]
    history: History | None
    stop_training: bool
    training_state: TrainingState
    signature: Signature | None
    """The names of the classes and how an image is prepared; files keep it."""

    @property
    def built(self) -> bool:
        """Whether all weights exist."""

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""

    @property
    def input_shape(self) -> Any:
        """(None, …) with the batch axis first; None while it is unknown."""

    @property
    def output_shape(self) -> Any:
        """(None, …) of the last layer; None before the model is built."""

    @property
    def weights(self) -> list[Weight]:
        """All weights, in the order of the layers."""

    @property
    def trainable_weights(self) -> list[Weight]:
        """The weights that training changes."""

    @property
    def parameters(self) -> Parameters:
        """The flat arrays that hold the weights and their gradients."""

    @property
    def optimizer(self) -> Any:
        """The optimizer; None before `compile`."""

    @property
    def precision(self) -> str:
        """The precision of products."""

    def build(self, input_shape: Any = None) -> None:
        """Make the weights for inputs of `input_shape`, batch axis (None) first."""

    def count_params(self) -> int:
        """Number of elements of all weights."""

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer with this name or at this place."""

    def get_config(self) -> dict[str, Any]:
        """The architecture as JSON values."""

    def compile_config(self) -> dict[str, Any] | None:
        """What `compile` said as JSON values; None before."""


@contextmanager
def computing(model: Model) -> Iterator[None]:
    """A context in which the model computes: its weights on the device in use, products in its precision.
    Raises `KernelError` if the device or the backends in use cannot compute it."""
    with choice.computing(model.precision), model.parameters.in_use():
        yield
