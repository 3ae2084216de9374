"""What tests of several layers share."""

import inspect

import numpy as np
from differences import slope_at

EPS = np.finfo(np.float64).eps
STEP = np.zeros(1, np.int64)
"""The number of updates so far, as a model passes it to its layers."""


def arguments_of(layer):
    """The arguments that may be given by position, with their defaults."""
    parameters = inspect.signature(layer.__init__).parameters.items()
    return {name: p.default for name, p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and name != "self"}


def assert_gradients_agree_with_central_differences(layer, shape, step=1e-5):
    """In each element of x, of this shape, and of the weights, in float64. The layer's activation is tanh."""
    rng = np.random.default_rng(0)
    layer.ensure_built((None, *shape[1:]))
    for weight in layer.weights:
        weight.value = rng.uniform(-1, 1, weight.shape)
        weight.gradient = np.full(weight.shape, np.nan)
    x = rng.uniform(-1, 1, shape)
    y, backward = layer.forward(x, STEP, True)
    dy = rng.uniform(-1, 1, y.shape)
    dx = backward(dy)
    # |tanh'''| ≤ 2 and all values lie in [-1, 1]: step² / 6 · 2 for each dy, and rounding of the sum over step.
    bound = (step**2 / 3 + 50 * EPS / step) * dy.size
    for array, gradient in [(x, dx), *((weight.value, weight.gradient) for weight in layer.weights)]:
        assert gradient.shape == array.shape
        for index in np.ndindex(array.shape):
            expected = slope_at(index, array, lambda: layer.forward(x, STEP, True)[0], dy, step)
            assert abs(gradient[index] - expected) <= bound
