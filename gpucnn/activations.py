"""Activation functions under Keras' names: call them on arrays, or pass them to a layer by name.

>>> activations.relu([-1.0, 2.0])
array([0., 2.], dtype=float32)
>>> layers.Dense(10, activation="leaky_relu")

Your own function returns its result together with its gradient; pass it to a layer directly:

    def square(x):
        return x * x, lambda dy: 2 * x * dy
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np

from .arguments import Count, Length, Limit, NotNegative, checked, numbers
from .config import Configurable, deserialize
from .devices import storage
from .errors import ArgumentError, ShapeError, did_you_mean
from .ops import activation as ops
from .ops.reshaping import transpose
from .retired import absent, absent_error

Backward = Callable[[Any], Any]


class Activation(Configurable):
    """Base of activation functions.

    `forward(x)` returns `(y, backward)`, and `backward(dy)` the gradient of x. A user's subclass
    that is decorated with `@gpucnn.register` is saved with the models that use it.
    """

    name = "activation"

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """(y, backward) for an array x."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x) -> (y, backward)")

    def __call__(self, x: Any) -> Any:
        """y alone: float64 for a float64 array, float32 for everything else."""
        return storage.get(self.forward(storage.put(_array(x)))[0])

    def __repr__(self) -> str:
        return f"<activation {self.name}>"


class Linear(Activation):
    """y = x."""

    name = "linear"

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """(x, backward); backward returns dy itself."""
        return x, lambda dy: dy


class Elementwise(Activation):
    """One of the functions of `ops.activation.FUNCTIONS`, with its parameter."""

    def __init__(self, function: str, alpha: float | None = None) -> None:
        if function not in ops.FUNCTIONS:
            raise ArgumentError(f"Elementwise({function!r}): use one of {', '.join(ops.FUNCTIONS)}")
        self.name = function
        self.alpha = ops.ALPHAS.get(function, 0.0) if alpha is None else float(alpha)

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """(y, backward), both elementwise; backward keeps y, as the next layer does, if it tells the slope, else x."""
        params: dict[str, Any] = {"function": self.name, "alpha": self.alpha}
        y = ops.activation(x, **params)
        kept = y if self.name in ops.SLOPES_AT_RESULTS and self.alpha >= 0 else x
        return y, lambda dy: ops.activation_grad(dy, kept, **params)


class ClippedReLU(Activation):
    """min(x, max_value) above the threshold, negative_slope · (x - threshold) up to it."""

    name = "clipped_relu"

    def __init__(
        self, max_value: Limit | None = None, negative_slope: NotNegative = 0.0, threshold: NotNegative = 0.0
    ) -> None:
        self.params: dict[str, Any] = {
            "max_value": math.inf if max_value is None else float(max_value),
            "negative_slope": float(negative_slope),
            "threshold": float(threshold),
        }

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """(y, backward), both elementwise; backward keeps x."""
        return ops.clipped_relu(x, **self.params), lambda dy: ops.clipped_relu_grad(dy, x, **self.params)


class Softmax(Activation):
    """exp(x) / Σ exp(x) over the last axis."""

    name = "softmax"

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """(y, backward); backward keeps y."""
        y = ops.softmax(x)
        return y, lambda dy: ops.softmax_grad(dy, y)


class SoftmaxOver(Activation):
    """exp(x) / Σ exp(x) over other axes than the last one alone: they are brought to the end and back."""

    name = "softmax_over"

    def __init__(self, axes: Annotated[Sequence[Count], Length(1)]) -> None:
        self.axes = tuple(axes)

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """(y, backward); backward keeps the result with these axes last, as rows."""
        order = (*(axis for axis in range(x.ndim) if axis not in self.axes), *self.axes)
        back = tuple(order.index(axis) for axis in range(x.ndim))
        length = math.prod(x.shape[axis] for axis in self.axes)
        turned = transpose(x, axes=order)
        y = ops.softmax(turned.reshape(-1, length))

        def backward(dy: Any) -> Any:
            dx = ops.softmax_grad(transpose(dy, axes=order).reshape(-1, length), y)
            return transpose(dx.reshape(turned.shape), axes=back)

        return transpose(y.reshape(turned.shape), axes=back), backward


class LogSoftmax(Activation):
    """The logarithm of the softmax over the last axis."""

    name = "log_softmax"

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """(y, backward); backward keeps y."""
        y = ops.log_softmax(x)
        return y, lambda dy: ops.log_softmax_grad(dy, y)


class UserFunction(Activation):
    """A user's function that returns (y, backward)."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.name = f"{getattr(function, '__name__', type(function).__name__)} (your function)"

    def forward(self, x: Any) -> tuple[Any, Backward]:
        """What the function returns."""
        result = self.function(x)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise ArgumentError(
                f"activation {self.name} returned {type(result).__name__}: return (y, backward), where backward(dy) "
                "is dx; for relu with other arguments use layers.ReLU or layers.LeakyReLU"
            )
        return result


@checked
def relu(
    x: Any, negative_slope: NotNegative = 0.0, max_value: Limit | None = None, threshold: NotNegative = 0.0
) -> Any:
    """max(x, 0); the arguments change either side.

    In full: min(x, max_value) above the threshold, negative_slope · (x - threshold) up to it.
    """
    return rectifier(negative_slope, max_value, threshold)(x)


@checked
def relu6(x: Any) -> Any:
    """min(max(x, 0), 6)."""
    return Elementwise("relu6")(x)


@checked
def leaky_relu(x: Any, negative_slope: NotNegative = 0.2) -> Any:
    """x above 0, negative_slope · x up to it."""
    return Elementwise("leaky_relu", negative_slope)(x)


@checked
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x above 0, alpha · (exp(x) - 1) up to it. Clevert, Unterthiner, Hochreiter, ICLR 2016."""
    return Elementwise("elu", alpha)(x)


@checked
def selu(x: Any) -> Any:
    """1.0507 · elu(x, 1.6733). Klambauer et al., "Self-Normalizing Neural Networks", NIPS 2017."""
    return Elementwise("selu")(x)


@checked
def celu(x: Any, alpha: float = 1.0) -> Any:
    """x above 0, alpha · (exp(x / alpha) - 1) up to it.

    Barron, "Continuously Differentiable Exponential Linear Units", 2017.
    """
    return Elementwise("celu", _nonzero("celu", alpha))(x)


@checked
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return Elementwise("sigmoid")(x)


@checked
def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x))."""
    return Elementwise("log_sigmoid")(x)


@checked
def hard_sigmoid(x: Any) -> Any:
    """x / 6 + 0.5, cut to 0 … 1."""
    return Elementwise("hard_sigmoid")(x)


@checked
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return Elementwise("tanh")(x)


@checked
def tanh_shrink(x: Any) -> Any:
    """x - tanh(x)."""
    return Elementwise("tanh_shrink")(x)


@checked
def hard_tanh(x: Any) -> Any:
    """x, cut to -1 … 1."""
    return Elementwise("hard_tanh")(x)


@checked
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """x, and 0 where |x| ≤ threshold."""
    return Elementwise("hard_shrink", threshold)(x)


@checked
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """x moved towards 0 by threshold, and 0 where |x| ≤ threshold."""
    return Elementwise("soft_shrink", threshold)(x)


@checked
def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return Elementwise("softplus")(x)


@checked
def softsign(x: Any) -> Any:
    """x / (1 + |x|)."""
    return Elementwise("softsign")(x)


@checked
def silu(x: Any) -> Any:
    """x · sigmoid(x), also called swish."""
    return Elementwise("silu")(x)


@checked
def hard_silu(x: Any) -> Any:
    """x · hard_sigmoid(x), also called hard_swish."""
    return Elementwise("hard_silu")(x)


@checked
def gelu(x: Any, approximate: bool = False) -> Any:
    """x · Φ(x) with the normal distribution function Φ; `approximate` takes its formula with tanh.

    Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.
    """
    return Elementwise("gelu_tanh" if approximate else "gelu")(x)


@checked
def mish(x: Any) -> Any:
    """x · tanh(softplus(x)). Misra, BMVC 2020."""
    return Elementwise("mish")(x)


@checked
def exponential(x: Any) -> Any:
    """exp(x)."""
    return Elementwise("exponential")(x)


@checked
def linear(x: Any) -> Any:
    """x itself."""
    return Linear()(x)


@checked
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / Σ exp(x) over the given axis."""
    return _over(Softmax(), x, axis)


@checked
def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of the softmax over the given axis."""
    return _over(LogSoftmax(), x, axis)


swish, hard_swish = silu, hard_silu

_NAMED: dict[str, Activation] = {
    **{name: Elementwise(name) for name in ops.FUNCTIONS if name != "gelu_tanh"},
    "linear": Linear(),
    "softmax": Softmax(),
    "log_softmax": LogSoftmax(),
}
_NAMED |= {"swish": _NAMED["silu"], "hard_swish": _NAMED["hard_silu"]}
_KERAS_ONLY = ("glu", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "threshold")


def get(identifier: Any) -> Activation:
    """The `Activation` behind None (linear), a name, a function or an object."""
    if identifier is None:
        return _NAMED["linear"]
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, str):
        return _by_name(identifier)
    if isinstance(identifier, dict):
        return deserialize({"kind": Activation.kind, **identifier})
    if isinstance(identifier, type) and issubclass(identifier, Activation):
        return identifier()
    if getattr(identifier, "__module__", None) == __name__:
        return _by_name(identifier.__name__)
    if callable(identifier):
        return UserFunction(identifier)
    raise ArgumentError(f"{identifier!r} is not an activation: give a name such as 'relu', a function or None")


@checked
def rectifier(
    negative_slope: NotNegative = 0.0, max_value: Limit | None = None, threshold: NotNegative = 0.0
) -> Activation:
    """The `Activation` of a ReLU with these arguments: plain relu or leaky_relu where possible."""
    if max_value is None and threshold == 0:
        if negative_slope == 0:
            return _NAMED["relu"]
        if negative_slope > 0:
            return Elementwise("leaky_relu", negative_slope)
    return ClippedReLU(max_value, negative_slope, threshold)


def _by_name(name: str) -> Activation:
    if name in _NAMED:
        return _NAMED[name]
    if name in _ABSENT:
        raise absent_error(__name__, name, _ABSENT[name])
    hint = did_you_mean(name, _NAMED)
    raise ArgumentError(f"unknown activation {name!r}: {hint}{hint and ' '}known are {', '.join(_NAMED)}")


def _nonzero(name: str, alpha: float) -> float:
    if not alpha:
        raise ArgumentError(f"{name}: alpha={alpha!r} divides x: use a number other than 0")
    return alpha


def _over(function: Activation, x: Any, axis: int) -> Any:
    x = _array(x)
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{function.name}(axis={axis}): x has {x.ndim} axes")
    if not x.shape[axis]:
        raise ShapeError(f"{function.name}: x has shape {x.shape}, nothing along axis {axis}")
    return np.moveaxis(function(np.moveaxis(x, axis, -1)), -1, axis)


def _array(x: Any) -> np.ndarray:
    dtype = np.float64 if getattr(x, "dtype", None) == np.float64 else np.float32
    return np.asarray(numbers("x", x), dtype, order="C")


_ABSENT = dict.fromkeys(_KERAS_ONLY, f"use one of {', '.join(_NAMED)}")

__getattr__ = absent(__name__, _ABSENT)
