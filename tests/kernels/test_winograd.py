"""Convolutions by Winograd's algorithm on the CPU: shapes that the cases do not have, and which parts share a block."""

import itertools

import numpy as np
import pytest

from gpucnn.dispatch.case import Case, Spec, real
from gpucnn.dispatch.check import disagreement
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.epilogue import end
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_maxpool

pytestmark = pytest.mark.jit

FUNCTIONS = "linear", "relu", "tanh", "leaky_relu"


def kernel_of(op):
    return next(kernel for kernel in op.kernels(("njit",)).values() if kernel.algorithm == "winograd")


def random_case(op, seed):
    """A case with filters of 2 to 7 rows and columns: of few images and from one panel of filters to several,
    or of so many images that tiles may be large."""
    rng = np.random.default_rng(seed)
    many = seed % 2
    images, height, width = int(rng.integers(1, 6)) + 128 * many, *map(int, rng.integers(2, 12, 2))
    channels, filters = map(int, rng.integers(16, 50 if many else 150, 2))
    taps = int(rng.integers(2, 8)), int(rng.integers(2, 8))
    padding = tuple((int(rng.integers(0, n)), int(rng.integers(0, n))) for n in taps)
    further = [max(pads) if op is conv2d_grad_weight else 1 for pads in padding]
    extents = zip((height, width), taps, padding, further, strict=True)
    height, width = (max(n, t - sum(pads) + more) for n, t, pads, more in extents)
    params = {"strides": (1, 1), "padding": padding, "dilation": (1, 1)}
    operands = [real(images, height, width, channels), real(*taps, channels, filters)]
    if op is conv2d:
        return Case(f"random_{seed}", tuple(operands), {**params, "groups": 1})
    if op is conv2d_grad_input or op is conv2d_grad_weight:
        y = real(images, *(n + sum(p) - t + 1 for n, p, t in zip((height, width), padding, taps, strict=True)), filters)
        other, size = (
            (operands[1], {"size": (height, width)})
            if op is conv2d_grad_input
            else (operands[0], {"kernel_size": taps})
        )
        return Case(f"random_{seed}", (y, other), {**params, **size, "groups": 1})
    params |= end(FUNCTIONS[seed // 2 % 4])
    if op is conv2d_bias_activation:
        params["keep_input"] = seed // 2 % 4 > 0 and seed % 3 == 0
    return Case(f"random_{seed}", (*operands, real(filters)), params)


OPS = conv2d, conv2d_grad_input, conv2d_grad_weight, conv2d_bias_activation, conv2d_bias_activation_maxpool


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_random_shapes_agree_with_the_definition(op, seed):
    assert disagreement(kernel_of(op), random_case(op, seed)) is None


@pytest.mark.parametrize("taps", [2, 3, 5])
def test_rows_of_tiles_may_end_within_a_block(taps):
    operands = real(2, 27, 22 + taps, 20), real(taps, taps, 20, 40)
    params = {"strides": (1, 1), "padding": ((1, 1), (0, 0)), "dilation": (1, 1), "groups": 1}
    assert disagreement(kernel_of(conv2d), Case("several_blocks", operands, params)) is None


def test_it_refuses_the_gradient_of_filters_of_which_a_tap_meets_nothing_but_padding():
    kernel, params = kernel_of(conv2d_grad_weight), {"strides": (1, 1), "dilation": (1, 1), "groups": 1}
    params |= {"kernel_size": (3, 3), "padding": ((2, 0), (1, 1))}
    for height, served in ((2, False), (3, True)):
        dy, x = (Spec((4, height, 8, 16), np.dtype(np.float32)), Spec((4, height, 8, 16), np.dtype(np.float32)))
        assert kernel.serves((dy, x), params) == served


@pytest.mark.parametrize("op", [conv2d_bias_activation, conv2d_bias_activation_maxpool], ids=lambda op: op.name)
def test_an_image_has_the_same_bits_alone_and_in_a_batch(op, rng):
    x, weight = rng.standard_normal((3, 48, 50, 16), np.float32), rng.standard_normal((3, 3, 16, 100), np.float32)
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
    ("images", "size", "channels", "taps", "pooled", "faster"),
    [
        (1, 32, 64, (3, 3), True, True),
        (1, 8, 64, (3, 3), True, False),
        (64, 8, 64, (3, 3), True, True),
        (64, 8, 64, (3, 3), False, True),
        (1, 8, 64, (3, 3), False, False),
        (64, 14, 24, (3, 3), False, False),
        (64, 28, 16, (5, 5), False, True),
        (64, 28, 32, (3, 5), False, True),
        (64, 14, 32, (7, 7), False, True),
        (64, 28, 32, (2, 2), False, False),
        (64, 28, 32, (1, 3), False, False),
        (64, 28, 32, (9, 9), False, False),
    ],
)
def test_it_is_chosen_where_many_tiles_meet_the_filters(images, size, channels, taps, pooled, faster):
    op = conv2d_bias_activation_maxpool if pooled else conv2d_bias_activation
    around = tuple((n // 2, (n - 1) // 2) for n in taps)
    params = {**end("relu"), "strides": (1, 1), "padding": around, "dilation": (1, 1)}
    params |= {} if pooled else {"keep_input": False}
    shapes = (images, size, size, channels), (*taps, channels, channels), (channels,)
    specs = [Spec(shape, np.dtype(np.float32)) for shape in shapes]
    assert (op.find(specs, params).algorithm == "winograd") == faster


@pytest.mark.parametrize(
    ("images", "size", "taps", "filters", "results"),
    [
        (128, 28, 5, 32, 4),
        (128, 10, 3, 32, 2),
        (128, 12, 3, 32, 4),
        (1, 28, 5, 32, 2),
        (1, 48, 3, 32, 4),
        (128, 28, 3, 1024, 2),
        (128, 28, 2, 32, 2),
    ],
)
def test_tiles_are_large_where_that_takes_fewer_products_of_many_tiles(images, size, taps, filters, results):
    from gpucnn.kernels.shared.winograd_tiles import tiles_of

    around = ((taps // 2, (taps - 1) // 2),) * 2
    tiles = tiles_of(size, size, 32, (taps, taps), around, images, filters)
    assert {axis.results for axis in tiles.axes} == {results}


FILTERINGS = [
    (2, 2),
    (2, 3),
    (3, 3),
    (4, 3),
    (2, 4),
    (3, 4),
    (4, 4),
    (2, 5),
    (3, 5),
    (4, 5),
    (2, 6),
    (4, 6),
    (2, 7),
    (4, 7),
]


@pytest.mark.parametrize(("results", "taps"), FILTERINGS)
def test_minimal_filtering_is_a_correlation_to_the_bit(rng, results, taps):
    filtering = filtering_of(results, taps)
    for _ in range(20):
        cells, weights = rng.integers(-9, 10, filtering.cells), rng.integers(-9, 10, taps)
        products = (filtering.of_filter @ weights) * (filtering.of_cells @ cells)
        assert (filtering.of_results @ products == np.correlate(cells, weights, "valid")).all()


@pytest.mark.parametrize(("results", "taps"), FILTERINGS)
def test_its_factors_are_powers_of_two_and_one_place_reaches_all_results(results, taps):
    filtering = filtering_of(results, taps)
    assert set(np.abs(filtering.of_filter).ravel()) <= {0, 0.25, 0.5, 1}
    assert set(np.abs(filtering.of_cells).ravel()) | set(np.abs(filtering.of_results).ravel()) <= {0, 1}
    assert (filtering.of_results[:, filtering.one] == 1).all()
    assert filtering.places < results * taps


def filtering_of(results, taps):
    from gpucnn.kernels.shared.winograd_matrices import Filtering

    return Filtering(results, taps)
