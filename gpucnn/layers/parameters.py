"""All weights of a model in one flat array, their gradients in another, cut into segments.

Each weight starts at a multiple of 256 bytes; the padding between is zero and is never saved. An
optimizer step is one pass over flat memory; what differs from weight to weight stands in its
segment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..devices import choose, forks, storage
from ..devices.device import ALIGNMENT
from ..errors import ArgumentError
from ..ops import update
from .layer import Layer, Weight, leaves

_ELEMENTS = ALIGNMENT // 4

settling = threading.RLock()
"""Held while weights are made or moved."""
forks.hold(settling, outermost=True)


@dataclass
class Segment:
    """Where one trainable weight lies in the flat arrays: elements [offset, offset + size)."""

    weight: Weight
    layer: Layer
    offset: int
    size: int

    @property
    def span(self) -> slice:
        """The elements of the weight in a flat array."""
        return slice(self.offset, self.offset + self.size)

    @property
    def trainable(self) -> bool:
        """Whether the update changes it now."""
        return self.layer.trainable and self.weight.trainable


class Parameters:
    """The flat float32 arrays `values` and `gradients` of a built model, on the device in use."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.segments: list[Segment] = []
        self.others: list[Weight] = []
        offset = 0
        for layer in leaves(layers):
            for weight in layer.weights:
                if not weight.trainable:
                    self.others.append(weight)
                else:
                    self.segments.append(Segment(weight, layer, offset, weight.size))
                    offset += -(-weight.size // _ELEMENTS) * _ELEMENTS
        self._size = offset
        self._users: list[int | None] = []
        with settling:
            self._settle()

    def bring(self) -> None:
        """Move everything to the device in use, if it is elsewhere. Raises `ArgumentError` while
        another thread computes with it there."""
        with settling:
            if self.device is choose.current():
                return
            others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
            if others & set(self._users):
                raise ArgumentError(
                    f"the model is in use on {self.device.name} by another thread and cannot move to "
                    f"{choose.current().name}: give this thread a model of its own, with models.clone_model and "
                    "set_weights"
                )
            self._settle()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Bring everything to the device in use and keep it there for the body of a with
        statement."""
        thread = threading.current_thread().ident
        with settling:
            self.bring()
            self._users.append(thread)
        try:
            yield
        finally:
            self._users.remove(thread)

    def _settle(self) -> None:
        """Make the flat arrays on the device in use, from the weights wherever they are.

        A weight moves when its copy is complete: other threads may compute with it meanwhile.
        """
        self.device = choose.current()
        self.values, self.gradients = storage.zeros((self._size,)), storage.zeros((self._size,))
        for segment in self.segments:
            weight = segment.weight
            value = self.values[segment.span].reshape(weight.shape)
            storage.write(value, storage.get(weight.value))
            weight.home, weight.value = self, value
            weight.gradient = self.gradients[segment.span].reshape(weight.shape)
        for weight in self.others:
            weight.bring()

    def gradient_norms(self) -> list[Any]:
        """The norm of the gradients in each trainable span, as `norm_parts` returns it.

        In all, one pass over the trainable gradients. The results are on the device in use.
        """
        return [update.norm_parts(self.gradients[span]) for span in self.trainable_spans()]

    @property
    def holds_all(self) -> bool:
        """Whether all weights still lie here, and no model that shares a layer has moved them."""
        return all(segment.weight.home is self for segment in self.segments)

    @property
    def size(self) -> int:
        """Length of the flat arrays, padding included."""
        return self._size

    def trainable_spans(self) -> list[slice]:
        """The flat ranges that an update may change: neighbouring trainable segments joined."""
        spans: list[slice] = []
        for segment in self.segments:
            if not segment.trainable:
                continue
            padded = segment.offset + -(-segment.size // _ELEMENTS) * _ELEMENTS
            if spans and spans[-1].stop == segment.offset:
                spans[-1] = slice(spans[-1].start, padded)
            else:
                spans.append(slice(segment.offset, padded))
        return spans
