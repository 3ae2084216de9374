"""Elementary functions of float32: how near they are to the exact values, and whether the compiler
makes vector instructions of them."""

import importlib
import math
import re

import numpy as np
import pytest

from gpucnn import places
from gpucnn.devices.njit import njit

places.folder_of_kernels()
MATH = importlib.import_module("gpucnn.kernels.shared.vector_math_njit")
SIMD = importlib.import_module("gpucnn.kernels.shared.simd_njit")

EXACT = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p_of_share": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": np.vectorize(math.erf, otypes=[float]),
    "normal_cdf": np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2, otypes=[float]),
}
EDGES = np.float32([88.72283, 88.72284, -87.3365, -103.9, -103.98, -104.1, -17.4, 16777216])
"""Where exp overflows, becomes denormal and 0, and expm1 becomes -1."""
SPECIAL = np.float32([0, -0.0, 1, -1, 0.5, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, *EDGES])
SPECIAL = np.append(SPECIAL, np.float32([3.4028235e38, -3.4028235e38, math.inf, -math.inf, math.nan]))


def looped(name):
    """The function in a loop over numbers."""
    function = getattr(MATH, name)

    @njit(error_model="numpy")
    def loop(y, x):
        for i in range(len(x)):
            y[i] = function(x[i])

    return loop


def in_vectors(name):
    """The function in a loop over vectors of eight."""
    function, load, store = getattr(MATH, name), SIMD.load, SIMD.store

    @njit(error_model="numpy")
    def loop(y, x):
        for i in range(0, len(x), 8):
            store(y, i, function(load(x, i)))

    return loop


def sample(name, each):
    """So many numbers of every exponent and sign, at random, and special ones; of those that the
    function takes."""
    top = np.arange(2**9, dtype=np.uint32) << np.uint32(23)
    low = np.random.default_rng(7).integers(0, 2**23, (each, 2**9)).astype(np.uint32)
    dense = np.random.default_rng(8).uniform(-20, 20, 64 * each).astype(np.float32)
    x = np.concatenate([(top | low).reshape(-1).view(np.float32), dense, SPECIAL, np.zeros(2, np.float32)])
    return np.where((x >= 0) & (x <= 1), x, 0).astype(np.float32) if name == "log1p_of_share" else x


def units(y, exact):
    """How many units in the last place of the exact value y is off; infinite where one is NaN and
    the other is not."""
    rounded = exact.astype(np.float32)
    unit = np.spacing(np.abs(np.where(np.isfinite(rounded), rounded, 1))).astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(y - exact) / unit
    same = (y == rounded) | ((y != y) & (rounded != rounded))
    return np.where(same, 0, np.where(np.isfinite(rounded) & np.isfinite(y), off, np.inf))


@pytest.mark.parametrize("name", [name for name in EXACT if name != "normal_cdf"])
def test_function_is_within_two_units_of_the_exact_value(name):
    x = sample(name, 256 if name == "erf" else 2048)
    y = np.full_like(x, np.nan)
    looped(name)(y, x)
    with np.errstate(all="ignore"):
        off = units(y, EXACT[name](x.astype(np.float64)))
    worst = off.argmax()
    assert off[worst] <= 2, f"{name}({x[worst]!r}) is {y[worst]!r}, off by {off[worst]:.2f} units"


def test_the_lower_tail_of_the_normal_distribution_keeps_its_digits():
    x = np.concatenate([np.linspace(-12, 12, 20001), SPECIAL]).astype(np.float32)
    y = np.full_like(x, np.nan)
    looped("normal_cdf")(y, x)
    exact = EXACT["normal_cdf"](x.astype(np.float64))
    near = np.abs(y - exact) <= np.where(x < -1.3, 5e-5 * exact, 2.0**-23 * np.maximum(exact, 0.5))
    assert (near | (np.isnan(x) & np.isnan(y)) | (np.abs(x) > 12)).all()
    assert y[x == -math.inf] == 0
    assert y[x == math.inf] == 1


@pytest.mark.parametrize("name", EXACT)
def test_a_vector_has_the_bits_of_its_numbers(name):
    x = sample(name, 16)
    one, eight = np.full_like(x, np.nan), np.full_like(x, np.nan)
    looped(name)(one, x)
    in_vectors(name)(eight, x)
    assert len(x) % 8 == 0
    numbers = one == one
    np.testing.assert_array_equal(one.view(np.uint32)[numbers], eight.view(np.uint32)[numbers])
    assert not (eight == eight)[~numbers].any()


@pytest.mark.parametrize("name", EXACT)
def test_the_compiler_makes_vector_instructions_of_a_loop(name):
    loop = looped(name)
    loop(np.zeros(64, np.float32), np.ones(64, np.float32))
    (assembly,) = loop.inspect_asm().values()
    assert re.search(r"\bv?(mulps|fn?m(add|sub)\d+ps)\b|\bfml[as]\s+v\d+\.4s", assembly)
    assert not re.search(r"(call\S*|bl)\s+\S*(expf?|logf?|tanhf?|erff?)\b", assembly)
