"""How much memory a training run needs, compared with how much is free."""

from __future__ import annotations

from dataclasses import dataclass

from ..devices import free_memory
from ..errors import MemoryNeedError
from .fusion import program
from .model import Model

_SPARE = 64 << 20
"""Bytes left for the interpreter, the pictures and everything else that a run touches."""

_ARRAYS = 4
"""Arrays of the size of a node's output that exist at once: output, gradient, and two in use."""


@dataclass(frozen=True)
class Need:
    """Bytes that a training run needs, by purpose.

    image     one image's share of a batch: activations and their gradients
    dataset   images that are still to be loaded or converted
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
        """The largest batch size that fits into `free` bytes next to the built model; 0 if none."""
        return max(0, (free - self.dataset - _SPARE) // max(1, self.image))


def need(model: Model, dataset: int = 0) -> Need:
    """What training a built and compiled model needs, plus `dataset` bytes of images still to come.

    Each node of the program keeps its output for the backward pass, together with the output's
    gradient and up to two arrays of that size in use; the batch itself comes on top.
    """
    model.optimizer.build(model.parameters)
    outputs = sum(_elements(node.layers[-1].output_shape) for node in program(model.layers, False))
    return Need(
        parameters=4 * model.count_params(),
        gradients=model.parameters.gradients.nbytes,
        slots=sum(array.nbytes for array in model.optimizer.state().values()),
        image=4 * (_elements(model.input_shape) + _ARRAYS * outputs),
        dataset=dataset,
    )


def check(model: Model, batch_size: int, dataset: int = 0) -> Need:
    """The need. Raises `MemoryNeedError`, naming the largest batch that fits, if it is too much."""
    run, free = need(model, dataset), free_memory.available()
    fits = batch_size if free is None else run.largest_batch(free)
    if fits < batch_size:
        advice = "no batch fits: use a smaller model or smaller images"
        if fits:
            advice = f"the largest batch size that fits is {fits}"
        weights = run.parameters + run.gradients + run.slots
        raise MemoryNeedError(
            f"a batch of {batch_size} images needs {free_memory.readable(run.total(batch_size))} "
            f"(activations {free_memory.readable(run.image * batch_size)}, weights with gradients and optimizer "
            f"{free_memory.readable(weights)}, data set {free_memory.readable(dataset)}) "
            f"and {free_memory.readable(free)} is free: {advice}"
        )
    return run


def _elements(shape: tuple[int | None, ...] | None) -> int:
    count = 1
    for extent in (shape or ())[1:]:
        count *= extent or 1
    return count
