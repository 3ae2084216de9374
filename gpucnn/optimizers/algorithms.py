"""The optimizers by name: each states how one step changes the weights."""

from __future__ import annotations

import math
from typing import Annotated, Any, Unpack

import numpy as np

from ..arguments import BelowOne, Bounds, Fraction, NotNegative
from ..ops import update, update_rules
from .optimizer import Optimizer, Tail

Epsilon = Annotated[float, Bounds(2.0**-150, above=True), "or a gradient of 0 gives 0 / 0"]
"""Above 0, in float32 too."""


class SGD(Optimizer):
    """Gradient descent, optionally with momentum or Nesterov's momentum."""

    def __init__(
        self, learning_rate: Any = 0.01, momentum: Fraction = 0.0, nesterov: bool = False, **tail: Unpack[Tail]
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.momentum, self.nesterov = momentum, nesterov

    def initial_slots(self) -> dict[str, float]:
        """m, the velocity, if there is momentum."""
        return {"m": 0.0} if self.momentum else {}

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        if slots:
            update.momentum(values, gradients, slots["m"], row, momentum=self.momentum, nesterov=self.nesterov)
        else:
            update.sgd(values, gradients, row)


class Adam(Optimizer):
    """Adam, or AMSGrad. As in Keras, `epsilon` is added to the root of the uncorrected moment."""

    squares = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: BelowOne = 0.9,
        beta_2: BelowOne = 0.999,
        epsilon: Epsilon = 1e-7,
        amsgrad: bool = False,
        **tail: Unpack[Tail],
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def initial_slots(self) -> dict[str, float]:
        """m and v, the moments; with AMSGrad also v_max."""
        return {"m": 0.0, "v": 0.0, "v_max": 0.0} if self.amsgrad else {"m": 0.0, "v": 0.0}

    def numbers(self, learning_rate: float, t: int) -> tuple[float, ...]:
        """The step size, with both bias corrections."""
        return (learning_rate * math.sqrt(1.0 - self.beta_2**t) / (1.0 - self.beta_1**t),)

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        update.adam(
            values,
            gradients,
            slots["m"],
            slots["v"],
            slots.get("v_max"),
            row,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: Loshchilov and Hutter, ICLR 2019."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: Annotated[NotNegative, "use Adam for no decay"] = 0.004,
        beta_1: BelowOne = 0.9,
        beta_2: BelowOne = 0.999,
        epsilon: Epsilon = 1e-7,
        amsgrad: bool = False,
        **tail: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **tail)


class Moments(Optimizer):
    """Two moments, of the gradients and of their sizes: what Nadam, Adamax and Lamb step by."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: BelowOne = 0.9,
        beta_2: BelowOne = 0.999,
        epsilon: Epsilon = 1e-7,
        **tail: Unpack[Tail],
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def initial_slots(self) -> dict[str, float]:
        """m and v, the moments."""
        return {"m": 0.0, "v": 0.0}


class Nadam(Moments):
    """Adam with Nesterov's momentum, which is beta_1 · (1 - 0.96ᵗ / 2) at update t, as in Keras."""

    squares = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: BelowOne = 0.9,
        beta_2: BelowOne = 0.999,
        epsilon: Epsilon = 1e-7,
        **tail: Unpack[Tail],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **tail)
        self._counters["momentum_product"] = np.ones(1)

    def numbers(self, learning_rate: float, t: int) -> tuple[float, ...]:
        """The factors of m and of the gradient, and the correction of v."""
        now, following = (self.beta_1 * (1.0 - 0.5 * 0.96**i) for i in (t, t + 1))
        product = self._counters["momentum_product"]
        product *= now
        return (
            learning_rate * following / (1.0 - float(product[0]) * following),
            learning_rate * (1.0 - now) / (1.0 - float(product[0])),
            1.0 / (1.0 - self.beta_2**t),
        )

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        update.nadam(
            values,
            gradients,
            slots["m"],
            slots["v"],
            row,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )

    def _restart(self) -> None:
        super()._restart()
        self._counters["momentum_product"][0] = 1.0


class RMSprop(Optimizer):
    """RMSprop, optionally with momentum, and optionally centred."""

    squares = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Fraction = 0.9,
        momentum: Fraction = 0.0,
        epsilon: Epsilon = 1e-7,
        centered: bool = False,
        **tail: Unpack[Tail],
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def initial_slots(self) -> dict[str, float]:
        """v and mean, the running means of squares and of gradients if centred; m, the velocity."""
        used = {"v": True, "mean": self.centered, "m": self.momentum}
        return {name: 0.0 for name, use in used.items() if use}

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        update.rmsprop(
            values,
            gradients,
            slots["v"],
            slots.get("mean"),
            slots.get("m"),
            row,
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
        )


class Adagrad(Optimizer):
    """Adagrad: the more a weight has been changed, the less it changes."""

    squares = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: NotNegative = 0.1,
        epsilon: Epsilon = 1e-7,
        **tail: Unpack[Tail],
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def initial_slots(self) -> dict[str, float]:
        """v, the sum of squares."""
        return {"v": self.initial_accumulator_value}

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        update.adagrad(values, gradients, slots["v"], row, epsilon=self.epsilon)


class Adadelta(Optimizer):
    """Adadelta. learning_rate=1.0 gives the form of the paper."""

    squares = True

    def __init__(
        self, learning_rate: Any = 0.001, rho: Fraction = 0.95, epsilon: Epsilon = 1e-7, **tail: Unpack[Tail]
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.rho, self.epsilon = rho, epsilon

    def initial_slots(self) -> dict[str, float]:
        """v and delta, the running means of squared gradients and of squared changes."""
        return {"v": 0.0, "delta": 0.0}

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        update.adadelta(values, gradients, slots["v"], slots["delta"], row, rho=self.rho, epsilon=self.epsilon)


class Adamax(Moments):
    """Adam with the largest gradient, which fades, instead of a mean of squares."""

    def initial_slots(self) -> dict[str, float]:
        """m, the first moment, and u, the largest gradient."""
        return {"m": 0.0, "u": 0.0}

    def numbers(self, learning_rate: float, t: int) -> tuple[float, ...]:
        """The step size, with the correction of m."""
        return (learning_rate / (1.0 - self.beta_1**t),)

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        params: dict[str, Any] = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        update_rules.adamax(values, gradients, slots["m"], slots["u"], row, **params)


class Lion(Optimizer):
    """Lion, whose steps are all of one size: use a third to a tenth of Adam's learning rate."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Annotated[float, Bounds(0, 1, above=True)] = 0.9,
        beta_2: Fraction = 0.99,
        **tail: Unpack[Tail],
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.beta_1, self.beta_2 = beta_1, beta_2

    def initial_slots(self) -> dict[str, float]:
        """m, the momentum."""
        return {"m": 0.0}

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        update_rules.lion(values, gradients, slots["m"], row, beta_1=self.beta_1, beta_2=self.beta_2)


class Ftrl(Optimizer):
    """Follow the regularised leader, for large and sparse models; a weight without gradients becomes 0."""

    squares = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: Annotated[float, Bounds(high=0)] = -0.5,
        initial_accumulator_value: NotNegative = 0.1,
        l1_regularization_strength: NotNegative = 0.0,
        l2_regularization_strength: NotNegative = 0.0,
        l2_shrinkage_regularization_strength: NotNegative = 0.0,
        beta: NotNegative = 0.0,
        **tail: Unpack[Tail],
    ) -> None:
        super().__init__(learning_rate, **tail)
        self.learning_rate_power, self.initial_accumulator_value = learning_rate_power, initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def initial_slots(self) -> dict[str, float]:
        """v, the sum of squares, and linear, the sum of what pulls at the weights."""
        return {"v": self.initial_accumulator_value, "linear": 0.0}

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """One update in place."""
        update_rules.ftrl(
            values,
            gradients,
            slots["v"],
            slots["linear"],
            row,
            power=-self.learning_rate_power,
            l1=self.l1_regularization_strength,
            l2=self.l2_regularization_strength,
            shrinkage=self.l2_shrinkage_regularization_strength,
            beta=self.beta,
        )
