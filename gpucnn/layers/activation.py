"""Layers that apply an activation function."""

from __future__ import annotations

import math
import warnings
from typing import Any

from .. import activations
from ..arguments import Limit, NotNegative
from ..errors import ArgumentError
from .layer import Activated, Backward, Shape


class Activation(Activated):
    """Apply an activation function: y = activation(x), with the shape of x.

    activation  a name such as "relu", a function of `gpucnn.activations`, or any function of x
                that returns (y, backward), where backward(dy) is the gradient of x

    Also takes the arguments of `Layer`. Raises `ArgumentError` for an unknown activation.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.array([[-1, 0, 2]])
    >>> layers.Activation("relu")(x).tolist()
    [[0.0, 0.0, 2.0]]
    >>> layers.Activation(lambda x: (x * x, lambda dy: 2 * x * dy))(x).tolist()
    [[1.0, 0.0, 4.0]]
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(activation, **kwargs)

    def linear(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(x, backward), unchanged."""
        return x, lambda dz, need_dx=True: dz if need_dx else None

    def flops(self, input_shape: Shape) -> int:
        """One for each value."""
        return math.prod(input_shape[1:])


class _One(Activation, abstract=True):
    """Base of layers that apply one certain function."""

    sets_itself = ("activation",)


class ReLU(_One):
    """Rectified linear unit: min(x, max_value) above the threshold, a slope up to it.

    max_value       largest output; None for no limit
    negative_slope  slope up to the threshold: y = negative_slope · (x - threshold)
    threshold       x up to which the slope applies

    The output has the shape of x. Also takes the arguments of `Layer`.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.array([[-1, 1, 3, 9]])
    >>> layers.ReLU()(x).tolist()
    [[0.0, 1.0, 3.0, 9.0]]
    >>> layers.ReLU(max_value=6, negative_slope=0.5, threshold=1)(x).tolist()
    [[-1.0, 0.0, 3.0, 6.0]]
    """

    def __init__(
        self,
        max_value: Limit | None = None,
        negative_slope: NotNegative = 0.0,
        threshold: NotNegative = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(activations.rectifier(negative_slope, max_value, threshold), **kwargs)


class LeakyReLU(_One):
    """Leaky rectified linear unit: x above 0, negative_slope · x up to 0.

    negative_slope  0.3 by default; `activations.leaky_relu` has 0.2, both as in Keras

    The output has the shape of x. Also takes the arguments of `Layer`. The old name of the
    argument, `alpha`, is accepted with a `DeprecationWarning`.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.LeakyReLU(0.5)(np.array([[-2, 3]])).tolist()
    [[-1.0, 3.0]]
    """

    def __init__(self, negative_slope: NotNegative = 0.3, *, alpha: NotNegative | None = None, **kwargs: Any) -> None:
        if alpha is not None:
            negative_slope = self._arguments["negative_slope"] = self._arguments.pop("alpha")
            warnings.warn("LeakyReLU(alpha=...) is now called negative_slope=", DeprecationWarning, stacklevel=2)
        super().__init__(activations.rectifier(negative_slope), **kwargs)


class ELU(_One):
    """Exponential linear unit: x above 0, alpha · (exp(x) - 1) up to 0.

    alpha  the output for large negative x is -alpha

    The output has the shape of x. Also takes the arguments of `Layer`.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.ELU(alpha=2)(np.array([[-100, 0, 3]])).tolist()
    [[-2.0, 0.0, 3.0]]
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(activations.Elementwise("elu", alpha), **kwargs)


class Softmax(_One):
    """Turn scores into probabilities: exp(x) / Σ exp(x) over an axis.

    axis  number of the axis, or of several in a list; -1 is the last one, 0 the batch

    The output has the shape of x and sums to 1 along these axes. Also takes the arguments of `Layer`.
    Raises `ArgumentError` for axes that x does not have, and for the batch.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Softmax()(np.array([[3, 3], [0, 1000]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    >>> layers.Softmax(axis=1)(np.array([[[3, 0], [3, 1000]]])).tolist()
    [[[0.5, 0.0], [0.5, 1.0]]]
    """

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__("softmax", **kwargs)
        axes = axis if isinstance(axis, (tuple, list)) else (axis,)
        if not axes or not all(type(number) is int for number in axes):
            raise ArgumentError(f"Softmax(axis={axis!r}): give the number of an axis, or a list of them")
        self.axis = axis

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of x."""
        rank = len(input_shape)
        axes = self.axis if isinstance(self.axis, (tuple, list)) else (self.axis,)
        numbers = sorted({axis % rank for axis in axes if -rank <= axis < rank})
        if len(numbers) < len(axes) or 0 in numbers:
            raise ArgumentError(
                f"{self.name}: Softmax(axis={self.axis!r}) of inputs {input_shape}: give axes of 1 … {rank - 1}, each "
                "once"
            )
        if numbers != [rank - 1]:
            self.activation = activations.SoftmaxOver(tuple(numbers))
        return input_shape
