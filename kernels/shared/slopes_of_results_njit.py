"""The slopes of the activation functions where their results are y, for numbers and vectors: what
`epilogue.keeps_input` says need not be computed from the arguments."""

from __future__ import annotations

from gpucnn.devices.njit import njit

from .activations_njit import SELU_PRODUCT, SELU_SCALE, SIX, SIXTH
from .vector_math_njit import ONE, ZERO, expm1
from .vector_operators_njit import choose, fma, magnitude


@njit(forceinline=True)
def _softsign_slope(y):
    s = ONE - magnitude(y)
    return s * s


OF_RESULTS = {
    name: njit(forceinline=True)(function)
    for name, function in {
        "relu6": lambda y, a: choose(y > ZERO, choose(y < SIX, ONE, ZERO), ZERO),
        "leaky_relu": lambda y, a: choose(y > ZERO, ONE, a),
        "elu": lambda y, a: choose(y > ZERO, ONE, y + a),
        "selu": lambda y, a: choose(y > ZERO, SELU_SCALE, y + SELU_PRODUCT),
        "celu": lambda y, a: choose(y > ZERO, ONE, y / a + ONE),
        "sigmoid": lambda y, a: y * (ONE - y),
        "log_sigmoid": lambda y, a: -expm1(y),
        "hard_sigmoid": lambda y, a: choose(y > ZERO, choose(y < ONE, SIXTH, ZERO), ZERO),
        "tanh": lambda y, a: fma(-y, y, ONE),
        "hard_tanh": lambda y, a: choose(magnitude(y) < ONE, ONE, ZERO),
        "hard_shrink": lambda y, a: choose(magnitude(y) > ZERO, ONE, ZERO),
        "soft_shrink": lambda y, a: choose(magnitude(y) > ZERO, ONE, ZERO),
        "softplus": lambda y, a: -expm1(-y),
        "softsign": lambda y, a: _softsign_slope(y),
        "exponential": lambda y, a: y,
    }.items()
}
"""By name; relu is missing: its gradient is masked, not multiplied."""
