"""What `compile` says about a model: optimizer, loss and metrics, and the nodes that a step runs through."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from .. import losses, metrics, optimizers
from ..config import Configurable, deserialize, serialize
from ..dispatch import choice
from ..errors import ArgumentError
from ..layers.layer import Activated, Layer
from ..layers.parameters import Parameters
from ..retired import reject
from . import fusion
from .state import TrainingState


class Compiled(ABC):
    """The part of a model that knows how it is to be trained; `Sequential` supplies layers and weights."""

    layers: list[Layer]
    name: str

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.loss: Any = None
        self.training_state = TrainingState()
        self._metrics: list[Any] | None = None
        self._program: list[fusion.Node] | None = None
        self._program_of = -1
        self._logits_loss: Any = None
        self.compiled = False

    @abstractmethod
    def build(self, input_shape: Any = None) -> None:
        """Make the weights for inputs of this shape."""

    @property
    @abstractmethod
    def input_shape(self) -> Any:
        """(None, …) with the batch axis first; None while it is unknown."""

    @property
    @abstractmethod
    def output_shape(self) -> Any:
        """(None, …) of the last layer; None before the model is built."""

    @property
    @abstractmethod
    def parameters(self) -> Parameters:
        """The flat arrays that hold the weights and their gradients."""

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        **unknown: Any,
    ) -> None:
        """Say how to train: the optimizer, the loss and the metrics, as names or objects.

        `run_eagerly`, `jit_compile` and `auto_scale_loss` are accepted and change nothing. With `steps_per_execution=k`
        the batch hooks of callbacks are called once for k batches.
        """
        if unknown:
            reject("compile", unknown, arguments_of(self.compile))
        if loss_weights is not None:
            raise ArgumentError(f"compile(loss_weights={loss_weights!r}): a Sequential has one loss; scale it instead")
        if not isinstance(steps_per_execution, (int, np.integer)) or steps_per_execution < 1:
            raise ArgumentError(f"compile(steps_per_execution={steps_per_execution!r}) must be an integer of 1 or more")
        for name, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value is not None and not isinstance(value, (list, tuple)):
                raise ArgumentError(f"compile({name}={value!r}) must be a list, such as ['accuracy']")
        self.optimizer = optimizers.get(optimizer)
        self.steps_per_execution = int(steps_per_execution)
        self._asked = {"loss": loss, "metrics": list(metrics or []), "weighted_metrics": list(weighted_metrics or [])}
        self.loss = losses.get(loss) if loss is not None else None
        if self.loss is not None and self.loss.reduction in (None, "none"):
            raise ArgumentError("compile(loss=…) with reduction='none' gives no single number: use 'mean'")
        self._metrics = None
        self._program = None
        self._logits_loss = None
        self.training_state = TrainingState()
        self.compiled = True

    def compile_config(self) -> dict[str, Any] | None:
        """What `compile` was given, as JSON values; None before. A function of yours is kept by its name."""
        if not self.compiled:
            return None
        asked = {
            k: [_described(m) for m in v] if isinstance(v, list) else _described(v) for k, v in self._asked.items()
        }
        return {"optimizer": serialize(self.optimizer), "steps_per_execution": self.steps_per_execution, **asked}

    def compile_from_config(self, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> None:
        """Compile as `compile_config` described; functions of yours are looked up in `custom_objects` by name."""
        known = custom_objects or {}
        self.compile(
            deserialize(config["optimizer"], known),
            _restored(config["loss"], known),
            metrics=[_restored(m, known) for m in config["metrics"]],
            weighted_metrics=[_restored(m, known) for m in config["weighted_metrics"]],
            steps_per_execution=config["steps_per_execution"],
        )

    @property
    def metrics(self) -> list[Any]:
        """The metrics of compile, once the shapes of y and the predictions are known."""
        return list(self._metrics or [])

    @property
    def metrics_names(self) -> list[str]:
        """`["loss", …]` in the order of `evaluate`'s result."""
        return ["loss", *(m.name for m in self.metrics)]

    def _require_compiled(self, method: str, needs_loss: bool) -> None:
        if not self.compiled:
            raise ArgumentError(f"{method} before compile: call model.compile(optimizer, loss, metrics) first")
        if needs_loss and self.loss is None:
            raise ArgumentError(
                f"{method} needs a loss: call model.compile(..., loss='sparse_categorical_crossentropy')"
            )

    def _resolve_metrics(self, y_shape: tuple[int, ...]) -> None:
        """Make the metrics that compile asked for, now that the shapes of labels and predictions are known."""
        plain, weighted = (
            [metrics.get(identifier, y_shape, self.output_shape) for identifier in self._asked[kind]]
            for kind in ("metrics", "weighted_metrics")
        )
        self._metrics, self._weighted = [*plain, *weighted], weighted
        taken: set[str] = set()
        for metric in self._metrics:
            base, number = metric.name, 0
            while metric.name in taken:
                number += 1
                metric.name = f"{base}_{number}"
            taken.add(metric.name)

    def _warn_if_logits(self) -> None:
        """Say once when a crossentropy that expects probabilities is given a layer without softmax or sigmoid."""
        last = self.layers[-1]
        linear = isinstance(last, Activated) and last.activation.name == "linear"
        if linear and getattr(self.loss, "from_logits", None) is False:
            warnings.warn(
                f"{type(self.loss).__name__} expects probabilities and {last.name} has no activation: give it "
                "activation='softmax' (or 'sigmoid'), or the loss from_logits=True",
                UserWarning,
                stacklevel=4,
            )

    def _nodes(self) -> list[fusion.Node]:
        if self._program is None or self._program_of != choice.generation():
            self._program_of = choice.generation()
            self._logits_loss = None
            last = self.layers[-1]
            if self.loss is not None and isinstance(last, Activated) and last.activity_regularizer is None:
                self._logits_loss = losses.from_logits_twin(self.loss, last.activation.name)
            self._program = fusion.program(self.layers, self._logits_loss is not None)
        return self._program


def arguments_of(method: Any) -> list[str]:
    """The names of a method's arguments, for the message that refuses another."""
    return [p.name for p in inspect.signature(method).parameters.values() if p.kind is not p.VAR_KEYWORD]


def _described(thing: Any) -> Any:
    if thing is None or isinstance(thing, str):
        return thing
    if isinstance(thing, Configurable):
        return serialize(thing)
    return {"function": getattr(thing, "__name__", repr(thing))}


def _restored(description: Any, known: dict[str, Any]) -> Any:
    if isinstance(description, dict) and "function" in description:
        name = description["function"]
        if name not in known:
            raise ArgumentError(
                f"the model was compiled with your function {name!r}: give custom_objects={{{name!r}: {name}}}"
            )
        return known[name]
    return deserialize(description, known) if isinstance(description, dict) else description
