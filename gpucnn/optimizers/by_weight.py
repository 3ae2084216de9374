"""Optimizers whose steps look at each weight array as a whole: at its norm, or at it as a matrix."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import BelowOne, Count, Fraction, NotNegative
from ..layers.layer import Weight
from ..layers.parameters import Parameters, Segment
from ..ops import update, update_rules
from ..ops.flat_updates import RATE
from ..ops.matmul import matmul
from ..ops.merging import weighted_sum
from .algorithms import Epsilon, Moments
from .optimizer import Optimizer


class Lamb(Moments):
    """Adam whose step is as long, measured by the weights, as the learning rate says: for large batches."""

    squares = True

    def numbers(self, learning_rate: float, t: int) -> tuple[float, ...]:
        """The learning rate and both bias corrections."""
        return (learning_rate, 1.0 / (1.0 - self.beta_1**t), 1.0 / (1.0 - self.beta_2**t))

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """The gradients become directions."""
        params: dict[str, Any] = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        update_rules.lamb(gradients, slots["m"], slots["v"], row, **params)

    def _update(self, parameters: Parameters, segments: list[Segment], spans: list[slice], row: Any) -> None:
        super()._update(parameters, segments, spans, row)
        for segment in segments:
            values, direction = parameters.values[segment.span], parameters.gradients[segment.span]
            norms = update.norm_parts(values), update.norm_parts(direction)
            update_rules.trust_step(values, direction, *norms, row)


_ADAM = 4
"""Where the row of Adam begins in the row of Muon: at a multiple of 16 bytes."""


class Muon(Optimizer):
    """Steps along the nearest orthogonal matrix to the momentum, for weights that are matrices, such as
    the kernels of Dense layers; AdamW for all others: Jordan et al., "Muon", 2024.

    exclude_layers      patterns of the paths of weights that AdamW changes as well
    exclude_embeddings  whether weights with "embedding" in their paths are among these
    adam_lr_ratio       learning rate of AdamW, divided by `learning_rate`
    muon_a, muon_b, muon_c, ns_steps
                        coefficients and number of the Newton-Schulz iterations
    rms_rate            size of a step's values for a learning rate of 1; None for the matrix itself

    The other arguments are those of AdamW and of momentum, and the shared ones.
    """

    squares = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: BelowOne = 0.9,
        adam_beta_2: BelowOne = 0.999,
        adam_weight_decay: NotNegative | None = 0.004,
        epsilon: Epsilon = 1e-7,
        weight_decay: NotNegative | None = 0.004,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.775,
        muon_c: float = 2.0315,
        adam_lr_ratio: NotNegative = 1.0,
        momentum: Fraction = 0.95,
        ns_steps: Count = 5,
        nesterov: bool = True,
        rms_rate: NotNegative | None = 0.2,
        **tail: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **tail)
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers, self.exclude_embeddings = list(exclude_layers or []), exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c, self.ns_steps = muon_a, muon_b, muon_c, int(ns_steps)
        self.momentum, self.nesterov, self.rms_rate = momentum, nesterov, rms_rate

    def initial_slots(self) -> dict[str, float]:
        """m, the momentum or first moment, and v, the second moment of AdamW."""
        return {"m": 0.0, "v": 0.0}

    def numbers(self, learning_rate: float, t: int) -> tuple[float, ...]:
        """The learning rate; then the row of AdamW."""
        rate = learning_rate * self.adam_lr_ratio
        decay = learning_rate * (self.adam_weight_decay or 0.0)
        step = rate * math.sqrt(1.0 - self.adam_beta_2**t) / (1.0 - self.adam_beta_1**t)
        return (learning_rate, decay, 0.0, 0.0, step)

    def _update(self, parameters: Parameters, segments: list[Segment], spans: list[slice], row: Any) -> None:
        self._clip(parameters, spans)
        of_adam = row[_ADAM : _ADAM + RATE + 1]
        adam: dict[str, Any] = {
            "beta_1": self.adam_beta_1,
            "beta_2": self.adam_beta_2,
            "epsilon": self.epsilon,
        }
        for segment in segments:
            span, weight = segment.span, segment.weight
            values, gradients = parameters.values[span], parameters.gradients[span]
            m, v = self._slots["m"][span], self._slots["v"][span]
            by_adam = self._goes_to_adam(weight)
            if (self.adam_weight_decay if by_adam else self.weight_decay) and self._decays(weight):
                update.decay(values, of_adam if by_adam else row)
            if by_adam:
                update.adam(values, gradients, m, v, None, of_adam, **adam)
            else:
                update_rules.gather_momentum(gradients, m, momentum=self.momentum, nesterov=self.nesterov)
                update.sgd(values, self._orthogonal(gradients, weight.shape), row)

    def _goes_to_adam(self, weight: Weight) -> bool:
        embeds = self.exclude_embeddings and "embedding" in weight.path.lower()
        excluded = any(re.search(pattern, weight.path) for pattern in self.exclude_layers)
        return len(weight.shape) != 2 or embeds or excluded

    def _orthogonal(self, gradients: Any, shape: tuple[int, ...]) -> Any:
        """The matrix with its singular values brought near 1, and to the size of a step, flat."""
        update_rules.to_unit(gradients, update.norm_parts(gradients), epsilon=1e-7)
        x, tall = gradients.reshape(shape), shape[0] > shape[1]
        for left in range(self.ns_steps - 1, -1, -1):
            size = 1.0 if left or self.rms_rate is None else math.sqrt(max(shape)) * self.rms_rate
            square = matmul(x, x, transpose_a=tall, transpose_b=not tall)
            fourth = matmul(square, square, transpose_a=False, transpose_b=False)
            factor = weighted_sum(square, fourth, of_a=self.muon_b, of_b=self.muon_c)
            pair = (x, factor) if tall else (factor, x)
            product = matmul(*pair, transpose_a=False, transpose_b=False)
            x = weighted_sum(x, product, of_a=self.muon_a * size, of_b=size)
        return x.reshape(-1)
