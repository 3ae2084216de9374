"""How a model is trained: optimizer, rates, batch size and epochs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import optimizers
from ..optimizers import Optimizer, schedules

SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda rate, steps: rate,
    "linear": lambda rate, steps: schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0),
    "cosine": schedules.CosineDecay,
    "exponential": lambda rate, steps: schedules.ExponentialDecay(rate, steps, decay_rate=0.01),
    "one-cycle": lambda rate, steps: schedules.CosineDecay(
        rate / 25, steps - int(0.3 * steps), warmup_target=rate, warmup_steps=int(0.3 * steps)
    ),
}
"""How the rate changes over all steps of a training: not, to 0, to 0 in half a cosine wave, to 1 %;
one-cycle rises from 4 % of the rate in the first 30 % of the steps, then falls to 0 in half a cosine wave
(Smith and Topin, "Super-convergence", arXiv 1708.07120)."""


_FORGOTTEN = 0.05
"""How much of a moving average may come from its start."""


@dataclass(frozen=True)
class Training:
    """How a model is trained by default.

    learning_rate   None is the default of the optimizer
    decay           the rate falls as learning_rate / (1 + decay · step), unless there is a schedule
    epoch_decay     the rate of each epoch is that of the one before times this, unless there is a schedule
    schedule        a name of `SCHEDULES`
    options         further arguments of the optimizer
    """

    optimizer: str
    batch_size: int
    epochs: int
    learning_rate: float | None = None
    decay: float = 0.0
    epoch_decay: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    loss: str = "sparse_categorical_crossentropy"
    schedule: str | None = None

    def altered(
        self,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        weight_decay: float | None = None,
        schedule: str | None = None,
    ) -> Training:
        """A copy in which the arguments that are not None replace its values.

        Another optimizer starts from its defaults, because rate, decay and options of the recipe
        belong to the old one. A learning rate alone replaces the initial rate and keeps the decays,
        which a schedule replaces.
        """
        base = self
        if optimizer is not None and optimizer.lower() != self.optimizer:
            base = dataclasses.replace(
                self, optimizer=optimizer.lower(), learning_rate=None, decay=0.0, epoch_decay=1.0, options={}
            )
        return dataclasses.replace(
            base,
            learning_rate=base.learning_rate if learning_rate is None else learning_rate,
            batch_size=batch_size or base.batch_size,
            epochs=epochs or base.epochs,
            options=base.options | ({} if weight_decay is None else {"weight_decay": weight_decay}),
            decay=base.decay if schedule is None else 0.0,
            epoch_decay=base.epoch_decay if schedule is None else 1.0,
            schedule=schedule or base.schedule,
        )

    def make_optimizer(self, steps: int = 0) -> Optimizer:
        """A new optimizer for a training of so many steps, on which a schedule depends.

        Raises `ArgumentError` for an unknown name or an invalid rate.
        """
        default = optimizers.get(self.optimizer)
        arguments = dict(self.options)
        if self.learning_rate is not None:
            arguments["learning_rate"] = self.learning_rate
        rate = arguments.get("learning_rate", default.learning_rate)
        if self.decay:
            arguments["learning_rate"] = schedules.InverseTimeDecay(rate, 1, self.decay)
        elif self.epoch_decay != 1:
            arguments["learning_rate"] = schedules.ExponentialDecay(
                rate, steps / self.epochs, self.epoch_decay, staircase=True
            )
        elif self.schedule is not None:
            arguments["learning_rate"] = SCHEDULES[self.schedule](rate, steps)
        return type(default)(**arguments)

    def warning(self, steps: int) -> str | None:
        """What the user should know of a training of so many steps: None, or that the moving average of the
        weights, which the model has at the end, is still near its start."""
        momentum = self.options.get("ema_momentum", 0.99) if self.options.get("use_ema") else 0.0
        left = momentum**steps
        if left < _FORGOTTEN:
            return None
        enough = math.ceil(math.log(_FORGOTTEN, momentum) * self.epochs / steps)
        return (
            f"the trained weights are moving averages (ema_momentum {momentum:g}), of which {100 * left:.0f} % still "
            f"come from the first step: train {enough} epochs or more"
        )

    def __str__(self) -> str:
        parts = [self.optimizer]
        if self.learning_rate is not None:
            parts.append(f"{self.learning_rate:g}")
        parts += [f"{name} {value:g}" for name, value in self.options.items()]
        if self.decay:
            parts.append(f"decay {self.decay:g}")
        if self.epoch_decay != 1:
            parts.append(f"times {self.epoch_decay:g} each epoch")
        if self.schedule:
            parts.append(self.schedule)
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"{' '.join(parts)}, batch {self.batch_size}, {epochs}"
