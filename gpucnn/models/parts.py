"""A training step whose batch is computed in parts, each by one of several processes.

Each part is a forward and a backward pass with the factors of the whole batch, so that the sum of
the gradients of the parts is the gradient of the batch. Losses and predictions of all parts are
gathered: loss and metrics are those of the batch. All ranks then make the same update.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from .. import distributed, places
from ..callbacks import BackupAndRestore, CallbackList
from ..devices import storage
from ..dispatch import choice
from ..distributed import Group
from ..errors import ArgumentError
from ..layers.layer import Layer, every, leaves
from ..metrics import Metric
from ..version import __version__, installed_version
from . import saving
from .batches import Arrays, Batch, Batches
from .compile_settings import CompileSettings
from .model import Model
from .node import Node
from .resident import is_ours, is_used
from .stored import StoredImages


class Step(Protocol):
    """What a step that is computed in parts needs of `TrainingStep`."""

    model: Model
    settings: CompileSettings
    metrics: list[Metric] | None

    def nodes(self) -> list[Node]:
        """What the step runs through."""

    def of_part(self, x: Any, batch: Batch, cut: slice) -> tuple[Any, Any, float]:
        """(losses, predictions if metrics need them, penalties) of a part, with its gradients written."""


def gradients(step: Step, batch: Batch, group: Group) -> tuple[np.ndarray, np.ndarray | None, float]:
    """(the losses of all samples, all predictions if metrics need them, penalties), with the gradients of
    the batch written.

    batch  its x holds the rows of this rank alone, `Group.own_rows`; y and weight are whole
    """
    assert batch.y is not None
    samples, cuts = len(batch.y), group.cuts(len(batch.y))
    own, counts = cuts[group.rank], [len(of_rank) for of_rank in cuts]
    sizes = [sum(cut.stop - cut.start for cut in of_rank) for of_rank in cuts]
    images = batch.x if own else np.zeros((1, *batch.x.shape[1:]), np.float32)  # without samples: for the shapes
    first = own[0].start if own else 0
    computed, rows = [], []
    for cut in own or [slice(0, 1)]:
        with placed(step, group, cut, samples, is_idle=not own):
            values, predicted, penalty = step.of_part(images[cut.start - first : cut.stop - first], batch, cut)
        computed.append((storage.get(values), None if predicted is None else storage.get(predicted), penalty))
        pieces = summands(step.model, cut, samples)
        if len(own) > 1:
            rows.append([piece.copy() for piece in pieces])
    for number, piece in enumerate(piece for piece in pieces if piece.size):
        group.all_reduce([row[number] for row in rows] or [piece][: len(own)], counts, out=piece)
    put_back_statistics(step.model, pieces[-1])
    values, outputs, penalties = (list(column) for column in zip(*computed, strict=True))
    mine = sizes[group.rank]
    losses_of_all = group.gather(np.concatenate(values)[:mine], sizes)
    predictions = group.gather(np.concatenate(outputs)[:mine], sizes) if step.metrics else None
    return losses_of_all, predictions, float(sum(group.gather(np.array(penalties[: len(own)]), counts)))


@contextmanager
def placed(step: Step, group: Group, cut: slice, samples: int, is_idle: bool) -> Iterator[None]:
    """In the body of a with statement, the layers compute the samples `cut` of a batch of `samples`.

    is_idle  whether this process has no samples of the batch, and computes others without effect
    """
    layers = [*leaves(step.model.layers)]
    try:
        for node in step.nodes():
            node.samples = samples
        for layer in layers:
            layer.first_sample, layer.peers, layer.is_idle = cut.start, group, is_idle
        yield
    finally:
        for node in step.nodes():
            node.samples = None
        for layer in layers:
            del layer.first_sample, layer.peers, layer.is_idle


def summands(model: Model, cut: slice, samples: int, stop: int | None = None) -> list[Any]:
    """What is added up over the parts: the flat gradients themselves, before the element `stop`, and in the
    last piece the statistics of the layers, each times the share of the samples `cut` in all samples."""
    share, parameters = np.float32((cut.stop - cut.start) / samples), model.parameters
    statistics = [share * array.reshape(-1) for layer in leaves(model.layers) for array in layer.batch_statistics]
    gradients = [parameters.gradients[:stop][span] for span in parameters.trainable_spans()]
    ends = np.cumsum([0, *(array.size for array in statistics)]).tolist()
    joined = storage.empty((ends[-1],))
    for array, (start, stop) in zip(statistics, pairwise(ends), strict=True):
        joined[start:stop] = array
    return [*gradients, joined]


def put_back_statistics(model: Model, means: Any) -> None:
    """Write the means of the layers' statistics over all parts where an update finds them."""
    start = 0
    for layer in leaves(model.layers):
        arrays = []
        for array in layer.batch_statistics:
            arrays.append(means[start : start + array.size].reshape(array.shape))
            start += array.size
        if arrays:
            layer.batch_statistics = arrays


def own_rows() -> Callable[[int], slice] | None:
    """What chooses the rows of a batch that this process computes; None if it trains alone."""
    group = distributed.group()
    return None if group is None else group.own_rows


def obstacle(model: Model) -> str | None:
    """Why several processes cannot record the steps that they compute together; None if they can, or if this
    process trains alone. All ranks must ask."""
    group = distributed.group()
    if group is None:
        return None
    if (reason := group.gpu_sums.missing) is not None:
        return f"gradients are added up in the memory of the host ({reason})"
    for layer in every(model.layers):
        if getattr(layer, "synchronized", False):
            return f"{layer.name} is synchronized, by messages between the hosts"
    return None


def agreed(reason: str | None) -> str | None:
    """The reason of the first rank that has one."""
    group = distributed.group()
    return reason if group is None else next(filter(None, group.gather_text(reason or "")), None)


def fewest(count: int) -> int:
    """The least number that any rank gives."""
    group = distributed.group()
    return count if group is None else min(map(int, group.gather_text(str(count))))


def of_this_rank(batch: Batch) -> Batch:
    """A whole batch with the x of this rank alone."""
    own = own_rows()
    return batch if own is None else batch._replace(x=batch.x[own(len(batch.x))])


def prepare(model: Model, step: Step, data: Batches, callbacks: Any, plan: tuple[Any, ...]) -> Any:
    """The callbacks of this rank in `fit`: those that write are called on rank 0 alone.

    plan  what else decides the result

    Raises `ArgumentError` for what cannot be computed in parts, and `RankError` unless all ranks have
    the same data, model, kernels and versions.
    """
    group = distributed.group()
    if group is None:
        return callbacks
    _check(model, data)
    loss = step.settings.loss
    if loss is not None and not loss.by_sample:
        raise ArgumentError(f"several processes cannot compute the loss {loss.name}, which looks at a whole batch")
    every = CallbackList([callbacks]).callbacks
    if group.size > 1:
        if any(isinstance(callback, BackupAndRestore) for callback in every):
            raise ArgumentError("BackupAndRestore cannot restore several processes: resume with gpucnn train --resume")
        assert isinstance(data, Arrays)
        group.compare(**_digests(model, step, data, plan))
    return [callback for callback in every if group.rank == 0 or not callback.writes]


def _check(model: Model, data: Batches) -> None:
    distributed.check_device()
    if not isinstance(data, Arrays):
        raise ArgumentError(f"several processes cannot share a {data.kind} of batches: give arrays")
    group = distributed.group()
    assert group is not None
    for layer in every(model.layers):
        if group.parts > group.size and getattr(layer, "synchronized", False):
            raise ArgumentError(
                f"{layer.name} is synchronized, and the statistics of {group.parts} parts cannot be exchanged by "
                f"{group.size} processes, which compute them one after the other: start {group.parts}, or leave out "
                "--parts"
            )
        if type(layer).update is not Layer.update and not is_ours(layer):
            raise ArgumentError(
                f"{layer.name} ({type(layer).__name__}) has an update of its own state, which would differ from "
                "process to process: train it in one process"
            )


def _digests(model: Model, step: Step, data: Arrays, plan: tuple[Any, ...]) -> dict[str, str]:
    """What must be the same on all ranks, each as a version or a SHA-256."""
    state = model.training_state
    settings = [model.get_config(), step.settings.to_json(), data.batch_size, state.seed, state.shuffles, *plan]
    kernels = sorted(path for path in places.folder_of_kernels().rglob("*") if path.suffix in (".py", ".cu", ".cuh"))
    contents = hashlib.sha256(repr(choice.decides()).encode())
    for path in kernels:
        contents.update(path.read_bytes())
    images = hashlib.sha256()
    for array in (data.x, data.y, data.weight):
        if array is not None:
            images.update(f"{array.dtype}{array.shape}".encode())
            for block in array.blocks() if isinstance(array, StoredImages) else (array,):
                images.update(np.ascontiguousarray(block).data)
    return {
        "gpucnn": __version__,
        "numpy": np.__version__,
        "numba": str(installed_version("numba")),
        "kernels": contents.hexdigest(),
        "recording": "on" if is_used() else "off",
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest(),
        "training_data": images.hexdigest(),
        "weights": saving.weights_sha256(model),
        "progress": f"epoch {state.epoch} batch {state.batch}",
    }
