"""Convolutions by Winograd's algorithm on the CPU: shapes that the cases do not have, and which parts share a block."""

import itertools

import numpy as np
import pytest

from gpucnn.dispatch.case import Case, Spec, real
from gpucnn.dispatch.check import disagreement
from gpucnn.ops.conv2d import conv2d
from gpucnn.ops.epilogue import end
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

pytestmark = pytest.mark.jit

FUNCTIONS = "linear", "relu", "tanh", "leaky_relu"


def kernel_of(op):
    return next(kernel for kernel in op.kernels(("njit",)).values() if kernel.algorithm == "winograd")


def random_case(op, seed):
    """A case with few images, and from one panel of filters to several."""
    rng = np.random.default_rng(seed)
    images, height, width = int(rng.integers(1, 6)), *map(int, rng.integers(2, 12, 2))
    channels, filters = map(int, rng.integers(16, 150, 2))
    padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (2, 2)))
    height, width = (max(n, 4 - sum(pads)) for n, pads in zip((height, width), padding, strict=True))
    params = {"strides": (1, 1), "padding": padding, "dilation": (1, 1)}
    operands = [real(images, height, width, channels), real(3, 3, channels, filters)]
    if op is conv2d:
        return Case(f"random_{seed}", tuple(operands), {**params, "groups": 1})
    params |= end(FUNCTIONS[seed % 4])
    if op is conv2d_bias_activation:
        params["keep_input"] = seed % 4 > 0 and seed % 3 == 0
    return Case(f"random_{seed}", (*operands, real(filters)), params)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("op", [conv2d, conv2d_bias_activation, conv2d_bias_activation_maxpool], ids=lambda op: op.name)
def test_random_shapes_agree_with_the_definition(op, seed):
    assert disagreement(kernel_of(op), random_case(op, seed)) is None


@pytest.mark.parametrize("op", [conv2d_bias_activation, conv2d_bias_activation_maxpool], ids=lambda op: op.name)
def test_an_image_has_the_same_bits_alone_and_in_a_batch(op, rng):
    x, weight = rng.standard_normal((9, 7, 8, 40), np.float32), rng.standard_normal((3, 3, 40, 100), np.float32)
    params = {**end("tanh"), "strides": (1, 1), "padding": ((1, 1), (1, 0)), "dilation": (1, 1)}
    params |= {"keep_input": False} if op is conv2d_bias_activation else {}

    def run(x):
        results = op(x, weight, np.ones(100, np.float32), algorithm="winograd", **params)
        return results if isinstance(results, tuple) else (results,)

    together, alone = run(x), [run(one[None]) for one in x]
    for all_, each in zip(together, zip(*alone, strict=True), strict=True):
        assert all_.tobytes() == b"".join(one.tobytes() for one in each)


def test_nan_and_infinity_reach_the_pooled_results_that_see_them(rng):
    x, weight = rng.standard_normal((2, 8, 8, 16), np.float32), rng.standard_normal((3, 3, 16, 32), np.float32)
    params = {**end("relu"), "strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    x[0, 2, 2, 5] = np.nan
    y, index = conv2d_bias_activation_maxpool(x, weight, np.zeros(32, np.float32), algorithm="winograd", **params)
    assert np.isnan(y[0, :2, :2]).all()
    assert np.isfinite(y[1]).all()
    assert index.max() <= 4


@pytest.mark.parametrize(
    ("images", "blocks", "panels", "shares", "parts"),
    [
        (1, 0, 1, 1, 1),
        (1, 1, 4, 4, 4),
        (1, 1, 3, 3, 3),
        (1, 2, 4, 2, 4),
        (1, 3, 4, 1, 3),
        (2, 1, 4, 2, 4),
        (4, 1, 8, 1, 4),
    ],
)
def test_few_blocks_are_shared_by_parts_that_have_panels_of_filters_each(images, blocks, panels, shares, parts):
    from gpucnn.kernels.shared.implicit_gemm_njit import split_with_panels

    work, count = split_with_panels(images, blocks, panels)
    assert (count, len(work)) == (shares, parts)
    covered = itertools.chain.from_iterable(range(part.first, part.last) for part in work)
    assert sorted(set(covered)) == list(range(images))


@pytest.mark.parametrize(
    ("images", "size", "pooled", "faster"),
    [(1, 32, True, True), (1, 8, True, False), (64, 8, True, True), (64, 8, False, True), (1, 8, False, False)],
)
def test_it_is_chosen_where_many_tiles_meet_the_filters(images, size, pooled, faster):
    op = conv2d_bias_activation_maxpool if pooled else conv2d_bias_activation
    params = {**end("relu"), "strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    params |= {} if pooled else {"keep_input": False}
    specs = [Spec(shape, np.dtype(np.float32)) for shape in ((images, size, size, 64), (3, 3, 64, 64), (64,))]
    assert (op.find(specs, params).algorithm == "winograd") == faster
