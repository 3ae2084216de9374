"""One training step of a model that has a name: its nodes on a card that is not here, and how it is
compared.

A step is forward, loss, backward and update, on a batch that is already on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import optimizers, utils
from ..devices import choose
from ..devices.cards import Card
from ..dispatch import choice
from ..dispatch.precision import Precision
from ..errors import ArgumentError
from ..layers import Dropout
from ..models.batches import Arrays, Batch
from ..models.resident_steps import ResidentSteps
from ..models.sequential import Sequential
from ..profiling import prediction
from ..profiling.launches import Copy, Launch, LaunchRecorder
from . import zoo

OPTIMIZERS = {"slides": "sgd", "keras-intro": "adam", "torres": "sgd", "cifar": "adam", "mlearning": "adam"}
"""The course models, each with its optimizer in comparisons."""

HOST = 75.0
"""Microseconds that Python takes for one node of a step, with uploads and reads: 71 to 84 in the steps
of four models that were measured on a machine with an H100 (2.1 to 3.2 ms). It belongs to the host,
not to the card."""

MEASURED = ("h100",)
"""Cards on which predicted steps were compared with measured ones: those of the five course models differ
by at most 13 % there."""


def optimizer(name: str) -> optimizers.Optimizer:
    """The optimizer in comparisons: adam or sgd."""
    return optimizers.Adam(1e-3, epsilon=1e-8) if name == "adam" else optimizers.SGD(0.01)


def compiled(model: str, dropout: bool = True, precision: Precision = "float32") -> Sequential:
    """The model as it is compared: weights from seed 0, its optimizer, no metrics; without dropout all
    of its rates are 0."""
    utils.set_random_seed(0)
    entry = zoo.find(model)
    built = entry.build()
    for layer in built.layers:
        if isinstance(layer, Dropout) and not dropout:
            layer.rate = 0.0
    built.compile(optimizer(OPTIMIZERS.get(model, "sgd")), entry.training.loss, precision=precision)
    return built


@dataclass(frozen=True)
class Step:
    """The predicted step of a model on a card.

    nodes      of the CUDA graph
    eager      nodes of a step that Python launches one by one
    precision  of products
    """

    model: str
    card: Card
    batch_size: int
    nodes: list[prediction.Node]
    eager: list[prediction.Node]
    precision: str

    @property
    def microseconds(self) -> float:
        """Of a step as a CUDA graph."""
        return prediction.total(self.nodes, self.card)

    @property
    def tolerance(self) -> float:
        """The relative error of a step to expect."""
        return prediction.WELL_KNOWN if self.card.name in MEASURED else prediction.UNKNOWN

    @property
    def eager_microseconds(self) -> float:
        """Of a step that Python launches: it takes the host or the card, whichever needs longer."""
        return max(HOST * len(self.eager), prediction.total(self.eager, self.card))

    def summary(self) -> list[str]:
        """What is predicted, in sentences."""
        flops, nbytes = (sum(getattr(node, name) for node in self.nodes) for name in ("flops", "nbytes"))
        graph, eager, aside = self.microseconds, self.eager_microseconds, sum(node.branch > 0 for node in self.nodes)
        return [
            f"{self.model}, batch {self.batch_size}, {self.precision}, on {self.card.title}: {len(self.nodes)} nodes"
            f"{f' ({aside} on branches)' if aside else ''}, {flops / 1e9:.2f} GFLOP, {nbytes / 1e6:,.0f} MB",
            f"predicted, ± {self.tolerance:.0%}: {graph:,.0f} µs a step as a CUDA graph; launched by Python, "
            f"{eager:,.0f} µs",
        ]


def row(step: Step) -> dict[str, Any]:
    """As JSON values; all times are predicted."""
    return {
        "model": step.model,
        "card": step.card.name,
        "batch_size": step.batch_size,
        "precision": step.precision,
        "nodes": len(step.nodes),
        "flops": sum(node.flops for node in step.nodes),
        "bytes": sum(node.nbytes for node in step.nodes),
        "predicted_us_per_step": step.microseconds,
        "tolerance": step.tolerance,
        "eager_nodes": len(step.eager),
        "predicted_eager_us_per_step": step.eager_microseconds,
        "kernels": [
            {
                "kernel": node.kernel,
                "op": node.op,
                "function": node.function,
                "blocks": node.blocks,
                "threads": node.threads,
                "waves": node.waves,
                "flops": node.flops,
                "executed_flops": node.executed,
                "bytes": node.nbytes,
                "dram_bytes": node.dram,
                "predicted_us": node.microseconds,
                "tolerance": node.tolerance,
                "bottleneck": node.bottleneck,
                "branch": node.branch,
                "beside": node.beside,
                "limits_us": node.limits,
            }
            for node in step.nodes
        ],
    }


def predicted(
    model: str, card: Card, backend: str = "cuda", precision: Precision = "float32", batch_size: int | None = None
) -> Step:
    """The step of a model, by default with the batch size of its training. Raises `KernelError` without the
    compilers, and for a precision that the card or the backend does not compute."""
    size = batch_size or zoo.find(model).training.batch_size
    graph, eager = (
        prediction.of_step(nodes(model, card.arch, backend, precision, eager, size), card) for eager in (False, True)
    )
    return Step(model, card, size, graph, eager, precision)


def nodes(
    model: str,
    arch: str,
    backend: str = "cuda",
    precision: Precision = "float32",
    eager: bool = False,
    batch_size: int | None = None,
) -> list[Launch | Copy]:
    """What a step launches and copies on GPUs of an architecture, such as sm_90."""
    entry, recorder = zoo.find(model), LaunchRecorder(arch)
    if backend not in recorder.backends:
        raise ArgumentError(f"--backend {backend}: a card runs {' or '.join(recorder.backends)}")
    size = batch_size or entry.training.batch_size
    x, y = np.zeros((size, *entry.input_shape), np.float32), np.zeros(size, np.int64)
    with choice.using(backend, device="emulator"), choose.using(recorder), choice.computing(precision):
        built = compiled(model, precision=precision)
        data = built._trainer.take(x, y, None, size, None)
        assert isinstance(data, Arrays)
        step = built._trainer.step
        if eager:
            launched = recorder.record_nodes(lambda: step.train(Batch(x, y, None)))
            return [replace(node, branch=0, beside=0) for node in launched]  # there is no graph
        steps = ResidentSteps(built, step, data, lambda batch, loss: None)
        steps.start(0)
        steps._plan_from(0)
        return recorder.record_nodes(lambda: steps.launch(size, 0))
