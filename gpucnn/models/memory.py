"""How much memory a training run needs, compared with how much is free, and what to do without it."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..devices import choose, free_memory
from ..errors import MemoryNeedError
from .batches import Batches
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
    return Need(
        parameters=4 * model.count_params(),
        gradients=model.parameters.gradients.nbytes,
        slots=sum(array.nbytes for array in model.optimizer.state().values()),
        image=_image(model),
        dataset=dataset,
    )


def check(model: Model, batch_size: int, dataset: int = 0) -> Need:
    """The need. Raises `MemoryNeedError`, naming the largest batch that fits, if it is too much."""
    device = choose.current()
    run, free = need(model, dataset if device.uses_host_memory else 0), device.free_bytes()
    fits = batch_size if free is None else run.largest_batch(free)
    if fits < batch_size:
        weights = run.parameters + run.gradients + run.slots
        raise MemoryNeedError(
            f"a batch of {batch_size} images needs {free_memory.readable(run.total(batch_size))} "
            f"(activations {free_memory.readable(run.image * batch_size)}, weights with gradients and optimizer "
            f"{free_memory.readable(weights)}, data set {free_memory.readable(dataset)}) "
            f"and {free_memory.readable(free)} is free: {_advice(fits)}"
        )
    return run


class _BatchError(MemoryNeedError):
    """A batch did not fit; the message names one that does."""


@contextmanager
def explained(model: Model, data: Batches) -> Iterator[None]:
    """Turn a `MemoryError` while batches are computed into a `MemoryNeedError` that names the
    largest batch that fits. What the failed call had allocated is free again."""
    try:
        yield
    except _BatchError:
        raise
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        device = choose.current()
        device.release()
        free = device.free_bytes()
        half = data.batch_size // 2
        fits = half if free is None else max(0, min(half, (free - _SPARE) // _image(model)))
        raise _BatchError(
            f"a batch of {data.batch_size} images does not fit into the memory of {device.name}: {error}: "
            f"{_advice(fits, 'about ')}"
        ) from None


def _advice(fits: int, about: str = "") -> str:
    if not fits:
        return "no batch fits: use a smaller model or smaller images"
    return f"the largest batch size that fits is {about}{fits}"


def _image(model: Model) -> int:
    """Bytes that one image of a batch needs in training."""
    outputs = sum(_elements(shape) for node in program(model.layers, False) for shape in node.outputs())
    return 4 * (_elements(model.input_shape) + _ARRAYS * outputs)


def _elements(shape: tuple[int | None, ...] | None) -> int:
    count = 1
    for extent in (shape or ())[1:]:
        count *= extent or 1
    return count
