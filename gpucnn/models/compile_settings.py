"""What `compile` says: the optimizer, the loss and the metrics that a model is trained with."""

from __future__ import annotations

from typing import Any, Literal

from .. import losses, metrics, optimizers
from ..arguments import Count, check
from ..config import Configurable, Counted, deserialize, serialize
from ..dispatch.precision import FLOAT32, Precision
from ..errors import ArgumentError
from ..layers.layer import Shape
from ..losses import Loss
from ..metrics import Metric
from ..optimizers import Optimizer

Steps = Count | Literal["auto"]
"""Batches for which the batch hooks of callbacks are called once. A GPU replays so many as one, up to
1,024; with as many as an epoch has, it launches once in an epoch. "auto" is 16 on a GPU, and 1 on the
CPU and wherever steps are launched one by one."""


class CompileSettings(Counted):
    """What `compile` says, as objects; metrics need the shapes of labels and outputs first."""

    def __init__(
        self,
        optimizer: Any,
        loss: Any,
        metrics: Any = None,
        weighted_metrics: Any = None,
        steps_per_execution: Any = 1,
        precision: Any = FLOAT32,
    ) -> None:
        for name, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value is not None and not isinstance(value, (list, tuple)):
                raise ArgumentError(f"compile({name}={value!r}) must be a list, such as ['accuracy']")
            for metric in value or ():
                _check_metric(metric)
        self.steps_per_execution = steps_per_execution
        self.precision = precision
        self.optimizer = optimizer
        self.loss = loss
        self._metrics, self._weighted_metrics = list(metrics or []), list(weighted_metrics or [])

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer; a name or an object can be assigned."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        if value is None:
            raise ArgumentError("compile(optimizer=None) trains nothing: give a name such as 'adam', or an object")
        self._optimizer: Optimizer = optimizers.get(value)

    @property
    def loss(self) -> Loss | None:
        """The loss; a name, an object or a function can be assigned."""
        return self._loss

    @loss.setter
    def loss(self, value: Any) -> None:
        loss: Loss | None = losses.get(value)
        if loss is not None and loss.reduction in (None, "none"):
            raise ArgumentError("compile(loss=…) with reduction='none' gives no single number: use 'mean'")
        self._loss, self._loss_as_given = loss, value

    @property
    def steps_per_execution(self) -> int | Literal["auto"]:
        """For how many batches the batch hooks of callbacks are called once."""
        return self._steps_per_execution

    @steps_per_execution.setter
    def steps_per_execution(self, value: Any) -> None:
        check("compile", "steps_per_execution", value, Steps)
        self._steps_per_execution: int | Literal["auto"] = "auto" if value == "auto" else int(value)

    @property
    def precision(self) -> str:
        """How exactly products read their factors."""
        return self._precision

    @precision.setter
    def precision(self, value: Any) -> None:
        check("compile", "precision", value, Precision)
        self._precision: str = value

    def make_metrics(self, y_shape: Shape, output_shape: Shape) -> tuple[list[Metric], list[Metric]]:
        """All metrics, with distinct names, and those among them that use sample weights."""
        plain = [metrics.get(metric, y_shape, output_shape) for metric in self._metrics]
        weighted = [metrics.get(metric, y_shape, output_shape) for metric in self._weighted_metrics]
        taken: set[str] = set()
        for metric in [*plain, *weighted]:
            base, number = metric.name, 0
            while metric.name in taken:
                number += 1
                metric.name = f"{base}_{number}"
            taken.add(metric.name)
        return [*plain, *weighted], weighted

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values. A function is described by its name."""
        return {
            "optimizer": serialize(self.optimizer),
            "steps_per_execution": self.steps_per_execution,
            "precision": self.precision,
            "loss": _described(self._loss_as_given),
            "metrics": [_described(metric) for metric in self._metrics],
            "weighted_metrics": [_described(metric) for metric in self._weighted_metrics],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> CompileSettings:
        """The settings that `to_json` described; `custom_objects` has functions by name."""
        objects = custom_objects or {}
        return cls(
            deserialize(values["optimizer"], objects),
            _restored(values["loss"], objects),
            [_restored(metric, objects) for metric in values["metrics"]],
            [_restored(metric, objects) for metric in values["weighted_metrics"]],
            values["steps_per_execution"],
            values.get("precision", FLOAT32),  # which earlier files do not have
        )


def _check_metric(metric: Any) -> None:
    """Raise `ArgumentError` for a name or an object that is no metric, before labels are seen."""
    if isinstance(metric, type):
        known = issubclass(metric, Metric)
    else:
        known = isinstance(metric, Metric) or callable(metric)
    if not known:
        metrics.get(metric)


def _described(argument: Any) -> Any:
    if argument is None or isinstance(argument, str):
        return argument
    if isinstance(argument, Configurable):
        return serialize(argument)
    return {"function": getattr(argument, "__name__", repr(argument))}


def _restored(description: Any, objects: dict[str, Any]) -> Any:
    if isinstance(description, dict) and "function" in description:
        name = description["function"]
        if name not in objects:
            raise ArgumentError(
                f"the model was compiled with your function {name!r}: give custom_objects={{{name!r}: {name}}}"
            )
        return objects[name]
    return deserialize(description, objects) if isinstance(description, dict) else description
