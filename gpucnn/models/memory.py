"""How much memory a training run needs, against how much is free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..devices import free_memory
from ..errors import MemoryNeedError

if TYPE_CHECKING:
    from .sequential import Sequential

_SPARE = 64 << 20
"""Bytes left for the interpreter, the pictures and what else a run touches."""

_ARRAYS = 4


@dataclass(frozen=True)
class Need:
    """Bytes that a training run needs, by what they are for.

    image     one image's share of a batch: activations and their gradients
    dataset   what is still to be loaded or converted of the images
    """

    parameters: int
    gradients: int
    slots: int
    image: int
    dataset: int

    def total(self, batch_size: int) -> int:
        """All bytes of a run with this batch size."""
        return self.parameters + self.gradients + self.slots + self.image * batch_size + self.dataset

    def largest_batch(self, free: int) -> int:
        """The largest batch size that fits into `free` bytes, of which the model has taken its part; 0 if none does."""
        return max(0, (free - self.dataset - _SPARE) // max(1, self.image))


def need(model: Sequential, dataset: int = 0) -> Need:
    """What training a built and compiled model needs, beside `dataset` bytes of images still to come.

    What the layers between two arrays in memory make is held for the backward pass, together with its gradient and up
    to two arrays of its size at work; the batch itself comes on top.
    """
    from .fusion import program

    model.optimizer.build(model.parameters)
    outputs = sum(_elements(node.layers[-1].output_shape) for node in program(model.layers, False))
    return Need(
        parameters=4 * model.count_params(),
        gradients=model.parameters.gradients.nbytes,
        slots=sum(array.nbytes for array in model.optimizer.state().values()),
        image=4 * (_elements(model.input_shape) + _ARRAYS * outputs),
        dataset=dataset,
    )


def check(model: Sequential, batch_size: int, dataset: int = 0) -> Need:
    """What the run needs. Raises `MemoryNeedError`, naming the largest batch that fits, if more than is free."""
    wanted, free = need(model, dataset), free_memory.available()
    fits = batch_size if free is None else wanted.largest_batch(free)
    if fits < batch_size:
        advice = "no batch fits: use a smaller model or smaller images"
        if fits:
            advice = f"the largest batch size that fits is {fits}"
        raise MemoryNeedError(
            f"a batch of {batch_size} images needs {free_memory.readable(wanted.total(batch_size))} "
            f"(activations {free_memory.readable(wanted.image * batch_size)}, weights with gradients and optimizer "
            f"{free_memory.readable(wanted.parameters + wanted.gradients + wanted.slots)}, data set {free_memory.readable(dataset)}) "
            f"and {free_memory.readable(free)} is free: {advice}"
        )
    return wanted


def _elements(shape: tuple[int | None, ...] | None) -> int:
    count = 1
    for extent in (shape or ())[1:]:
        count *= extent or 1
    return count
