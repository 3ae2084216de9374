"""Generators that end early or are resumed: what is passed over, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator

from ..callbacks import CallbackList
from ..errors import ArgumentError, warn
from .batches import Batch, Batches, Stream

_ENDLESS = "make it endless (`while True:`)"


def limited(data: Batches, hooks: CallbackList | None = None, within_fit: bool = False) -> Iterator[Batch]:
    """At most `steps` batches. Fewer are named in a warning, and corrected in the hooks of a call."""
    count = 0
    for batch in data.epoch(None):
        if count == data.steps:
            return
        count += 1
        yield batch
    if isinstance(data, Stream) and data.steps is not None and 0 < count < data.steps:
        which = f"the {data.kind} of validation_data" if within_fit else f"the {data.kind}"
        warn(f"{which} ended after {count} of {data.steps} batches: the result is that of {count}")
        if hooks is not None and not within_fit:
            hooks.correct_steps(count)


def check_epoch(data: Stream, count: int, epoch: int) -> None:
    """Warn if the stream ended early. Raises `ArgumentError` if it gave no batch in this epoch."""
    if count == 0:
        advice = f"each epoch takes {data.steps} batches: {_ENDLESS}, or give fewer epochs"
        if data.steps is None:
            advice = f"give steps_per_epoch, and {_ENDLESS}"
        raise ArgumentError(f"fit met no batch in epoch {epoch + 1}: the {data.kind} is exhausted; {advice}")
    if data.steps is not None and count < data.steps:
        warn(
            f"the {data.kind} ended after {count} of {data.steps} batches in epoch {epoch + 1}: {_ENDLESS}, or give a "
            "smaller steps_per_epoch"
        )


def exhausted(data: Batches, within_fit: bool) -> ArgumentError:
    """The error for an evaluation that met no batch."""
    if not within_fit:
        return ArgumentError("evaluate met no batch: the generator is exhausted; create a new one for each call")
    needed = "give validation_steps" if data.steps is None else f"each validation takes {data.steps} batches"
    return ArgumentError(f"the generator of validation_data is exhausted; {needed}: {_ENDLESS}, or give arrays")


def skip(data: Batches | None, epochs: int, batches: int = 0) -> None:
    """Pass over what so many epochs, and batches of the next one, took from a generator."""
    if isinstance(data, Stream):
        data.skip(epochs * (data.steps or 0) + batches)
