"""Pooling: numbers worked by hand, ties, padding, gradients, PyTorch, and the layers of one, two and three axes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import EPS, STEP
from refusals import refuses

from gpucnn import config, layers
from gpucnn.dispatch.case import Spec
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.globalpool import globalavgpool, globalavgpool_grad, globalmaxpool, globalmaxpool_grad
from gpucnn.ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad

HALVES = {"pool": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}


def layers_called(name):
    """The layers of one, two and three axes that pool by maximum and by average, by kind and number of axes."""
    kinds = {"max": "Max", "avg": "Average"}
    return {(kind, rank): getattr(layers, name.format(kinds[kind], rank)) for kind in kinds for rank in (1, 2, 3)}


POOLINGS, GLOBAL = layers_called("{}Pooling{}D"), layers_called("Global{}Pooling{}D")


def image(rows):
    return np.array(rows, np.float32)[None, :, :, None]


def rows(x):
    return x[0, :, :, 0].tolist()


FOUR = image([[1, 3, 2, 1], [4, 2, 0, 6], [7, 0, 5, 5], [1, 2, 3, 8]])


def test_the_textbook_image_of_four_by_four():
    assert rows(maxpool2d(FOUR, **HALVES)) == [[4, 6], [7, 8]]
    assert rows(avgpool2d(FOUR, **HALVES)) == [[2.5, 2.25], [2.5, 5.25]]


def test_gradients_of_the_textbook_image():
    dy = image([[10, 20], [30, 40]])
    dx = maxpool2d_grad(dy, FOUR, maxpool2d(FOUR, **HALVES), **HALVES)
    assert rows(dx) == [[0, 0, 0, 0], [10, 0, 0, 20], [30, 0, 0, 0], [0, 0, 0, 40]]
    assert rows(avgpool2d_grad(dy, size=(4, 4), **HALVES)) == [[2.5, 2.5, 5, 5]] * 2 + [[7.5, 7.5, 10, 10]] * 2


def test_rows_and_columns_that_no_window_meets_have_no_gradient():
    x = image(np.arange(15).reshape(3, 5))
    dy = image([[1, 2]])
    assert rows(maxpool2d(x, **HALVES)) == [[6, 8]]
    assert rows(maxpool2d_grad(dy, x, maxpool2d(x, **HALVES), **HALVES)) == [[0] * 5, [0, 1, 0, 2, 0], [0] * 5]
    assert rows(avgpool2d_grad(dy, size=(3, 5), **HALVES)) == [[0.25, 0.25, 0.5, 0.5, 0]] * 2 + [[0] * 5]


@pytest.mark.parametrize(
    ("cells", "winner"),
    [([[5, 5], [5, 5]], (0, 0)), ([[1, 5], [5, 5]], (0, 1)), ([[1, 2], [5, 5]], (1, 0)), ([[0, 0], [0, 0]], (0, 0))],
)
def test_ties_go_to_the_first_cell_in_row_major_order(cells, winner):
    x = image(cells)
    dx = maxpool2d_grad(image([[7]]), x, maxpool2d(x, **HALVES), **HALVES)
    expected = np.zeros((2, 2))
    expected[winner] = 7
    assert np.array_equal(dx[0, :, :, 0], expected)


def test_overlapping_windows_add_their_gradients():
    x = image([[1, 9, 2], [0, 3, 4]])
    window = {"pool": (2, 2), "strides": (1, 1), "padding": ((0, 0), (0, 0))}
    dy = image([[10, 100]])
    assert rows(maxpool2d_grad(dy, x, maxpool2d(x, **window), **window)) == [[0, 110, 0], [0, 0, 0]]
    assert rows(avgpool2d_grad(dy, size=(2, 3), **window)) == [[2.5, 27.5, 25]] * 2


@pytest.mark.parametrize("x", [image([[-3, -2], [-5, -7]]), image([[-np.inf] * 2] * 2)], ids=["negative", "infinite"])
def test_cells_of_the_padding_never_win(x):
    window = {"pool": (2, 2), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
    y = maxpool2d(x, **window)
    assert np.array_equal(y, x)
    dy = image([[1, 2], [3, 4]])
    assert np.array_equal(maxpool2d_grad(dy, x, y, **window), dy)


def test_the_mean_does_not_count_padding():
    window = {"pool": (2, 2), "strides": (1, 1), "padding": ((0, 1), (0, 1))}
    x = image([[1, 3], [5, 7]])
    assert rows(avgpool2d(x, **window)) == [[4, 5], [6, 7]]
    assert rows(avgpool2d_grad(image([[4, 2], [2, 1]]), size=(2, 2), **window)) == [[1, 2], [2, 4]]


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_window_that_holds_nan_gives_nan(place):
    x = image([[1, 2], [3, 4]])
    x[0, *place, 0] = np.nan
    assert np.isnan(maxpool2d(x, **HALVES)).all()
    assert np.isnan(globalmaxpool(x.reshape(1, 4, 1))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_keep_the_dtype(dtype):
    x = np.ones((1, 3, 3, 2), dtype)
    window = {"pool": (2, 2), "strides": (1, 1), "padding": ((1, 0), (0, 1))}
    y = maxpool2d(x, **window)
    assert maxpool2d_grad(y, x, y, **window).dtype == y.dtype == dtype
    mean = avgpool2d(x, **window)
    assert avgpool2d_grad(mean, size=(3, 3), **window).dtype == mean.dtype == dtype
    flat = x.reshape(1, 9, 2)
    assert globalavgpool(flat).dtype == globalavgpool_grad(y[0, 0], count=3).dtype == dtype
    assert globalmaxpool(flat).dtype == globalmaxpool_grad(flat[:, 0], flat).dtype == dtype


@st.composite
def windows(draw):
    """(shape of x, window) with at least one position."""
    pool = draw(st.tuples(*[st.integers(1, 4)] * 2))
    padding = tuple(draw(st.tuples(*[st.integers(0, k - 1)] * 2)) for k in pool)
    size = tuple(draw(st.integers(max(1, k - sum(p)), 9)) for k, p in zip(pool, padding, strict=True))
    strides = draw(st.tuples(*[st.integers(1, 4)] * 2))
    shape = (draw(st.integers(1, 3)), *size, draw(st.integers(1, 3)))
    return shape, {"pool": pool, "strides": strides, "padding": padding}


def by_hand(x, window, choose):
    """Pooling as its definition says it: `choose` of the list of values in each window."""
    (top, _), (left, _) = window["padding"]
    n, h, w, c = x.shape
    (r, s), (down, right) = window["pool"], window["strides"]
    p, q = ((m + sum(pad) - k) // t + 1 for m, pad, k, t in zip((h, w), window["padding"], (r, s), (down, right)))
    y = np.empty((n, p, q, c))
    for i, j in np.ndindex(p, q):
        first_row, first_column = i * down - top, j * right - left
        part = x[:, max(first_row, 0) : first_row + r, max(first_column, 0) : first_column + s]
        y[:, i, j] = choose(part.reshape(n, -1, c), axis=1)
    return y


@settings(deadline=None, max_examples=60)
@given(windows(), st.integers(0, 2**32 - 1))
def test_pooling_is_what_its_definition_says(setting, seed):
    shape, window = setting
    x = np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)
    assert np.array_equal(maxpool2d(x, **window), by_hand(x, window, np.max))
    assert np.abs(avgpool2d(x, **window) - by_hand(x, window, np.mean)).max() <= 64 * EPS


@settings(deadline=None, max_examples=60)
@given(windows(), st.integers(0, 2**32 - 1))
def test_the_gradient_of_the_maximum_goes_to_the_first_largest_cell(setting, seed):
    shape, window = setting
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, shape).astype(np.float64)
    y = maxpool2d(x, **window)
    dy = rng.integers(-4, 5, y.shape).astype(np.float64)
    expected = np.zeros(shape)
    (top, _), (left, _) = window["padding"]
    for n, i, j, c in np.ndindex(y.shape):
        for r, s in itertools.product(*map(range, window["pool"])):
            row, column = i * window["strides"][0] - top + r, j * window["strides"][1] - left + s
            inside = 0 <= row < shape[1] and 0 <= column < shape[2]
            if inside and x[n, row, column, c] == y[n, i, j, c]:
                expected[n, row, column, c] += dy[n, i, j, c]
                break
    assert np.array_equal(maxpool2d_grad(dy, x, y, **window), expected)


@settings(deadline=None, max_examples=60)
@given(windows(), st.integers(0, 2**32 - 1))
def test_the_gradient_of_the_mean_is_its_adjoint(setting, seed):
    shape, window = setting
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    y = avgpool2d(x, **window)
    dy = rng.normal(size=y.shape)
    dx = avgpool2d_grad(dy, size=shape[1:3], **window)
    terms = np.abs(dy).sum() * np.abs(x).max() + np.abs(dx * x).sum()
    assert abs(np.vdot(dy, y) - np.vdot(dx, x)) <= (16 + y.size) * EPS * terms


def test_the_gradient_of_the_maximum_agrees_with_central_differences(rng):
    window = {"pool": (3, 2), "strides": (2, 1), "padding": ((1, 1), (0, 1))}
    x = rng.permutation(2 * 5 * 4 * 2).reshape(2, 5, 4, 2).astype(np.float64)
    dy = rng.integers(-9, 10, maxpool2d(x, **window).shape).astype(np.float64)
    dx = maxpool2d_grad(dy, x, maxpool2d(x, **window), **window)
    for index in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[index] = 0.25  # less than half of what parts two values: linear, and exact in binary
        difference = np.vdot(dy, maxpool2d(x + moved, **window) - maxpool2d(x - moved, **window)) / 0.5
        assert difference == dx[index]


@settings(deadline=None, max_examples=25)
@given(windows(), st.integers(0, 2**32 - 1))
def test_pooling_agrees_with_pytorch(setting, seed):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    shape, window = setting
    rng = np.random.default_rng(seed)
    x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)
    padding = [0, 0, *itertools.chain(*reversed(window["padding"]))]

    def theirs(function, fill):
        leaf = torch.tensor(x, requires_grad=True)
        padded = functional.pad(leaf, padding, value=fill).movedim(-1, 1)
        y = function(padded, window["pool"], window["strides"]).movedim(1, -1)
        return leaf, y

    leaf, y = theirs(functional.max_pool2d, -np.inf)
    dy = rng.normal(size=tuple(y.shape))
    y.backward(torch.tensor(dy))
    ours = maxpool2d(x, **window)
    assert np.array_equal(ours, y.detach().numpy())
    overlaps = window["pool"][0] * window["pool"][1]
    bound = overlaps * EPS * np.abs(dy).max()
    assert np.abs(maxpool2d_grad(dy, x, ours, **window) - leaf.grad.numpy()).max() <= overlaps * bound

    if not any(itertools.chain(*window["padding"])):  # PyTorch counts cells that were padded before
        leaf, y = theirs(functional.avg_pool2d, 0)
        y.backward(torch.tensor(dy))
        assert np.abs(avgpool2d(x, **window) - y.detach().numpy()).max() <= overlaps * EPS * x.max()
        dx = avgpool2d_grad(dy, size=shape[1:3], **window)
        assert np.abs(dx - leaf.grad.numpy()).max() <= overlaps * bound


def test_global_pooling_of_a_small_array():
    x = np.array([[[1, 8], [2, 8], [6, 2]]], np.float64)
    assert globalavgpool(x).tolist() == [[3, 6]]
    assert globalmaxpool(x).tolist() == [[6, 8]]
    dy = np.array([[3.0, 6.0]])
    assert globalavgpool_grad(dy, count=3).tolist() == [[[1, 2]] * 3]
    assert globalmaxpool_grad(dy, x).tolist() == [[[0, 6], [0, 0], [3, 0]]]


# -- layers ------------------------------------------------------------------------------------------------------------


def test_max_pooling_halves_by_default_and_average_pooling_has_no_default():
    assert layers.MaxPooling1D().compute_output_shape((None, 6, 2)) == (None, 3, 2)
    assert layers.MaxPooling2D().compute_output_shape((None, 5, 6, 2)) == (None, 2, 3, 2)
    assert layers.MaxPooling3D().compute_output_shape((None, 4, 5, 6, 2)) == (None, 2, 2, 3, 2)
    for rank in (1, 2, 3):
        with pytest.raises(ArgumentError, match="pool_size"):
            POOLINGS["avg", rank]()


def test_the_arguments_are_those_of_keras_in_their_order():
    layer = layers.MaxPooling2D(3, 2, "SAME", None, "pool")
    assert (layer.pool_size, layer.strides, layer.padding, layer.name) == ((3, 3), (2, 2), "same", "pool")
    assert layers.MaxPooling2D((2, 3)).strides == (2, 3)
    assert layers.AveragePooling2D(2, strides=(1, 2)).strides == (1, 2)


@pytest.mark.parametrize(("kind", "rank"), POOLINGS)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("pool", "strides"), [(2, None), (3, 2), (2, 3), (4, 1)])
def test_layers_pool_along_all_their_axes(kind, rank, padding, pool, strides, rng):
    layer = POOLINGS[kind, rank](pool, strides, padding)
    sizes = (7, 4, 5)[:rank]
    x = rng.integers(0, 3, (2, *sizes, 2)).astype(np.float64)
    y, backward = layer.forward(x, STEP, True)
    step, starts = strides or pool, []
    for size in sizes:
        if padding == "same":
            count = -(-size // step)
            before = max((count - 1) * step + pool - size, 0) // 2
        else:
            count, before = (size - pool) // step + 1, 0
        starts.append([i * step - before for i in range(count)])
    dy = rng.integers(1, 9, y.shape).astype(np.float64)
    expected, dx = np.empty(y.shape), np.zeros(x.shape)
    for position in np.ndindex(*y.shape[1:-1]):
        first = [start[i] for start, i in zip(starts, position, strict=True)]
        cells = tuple(slice(max(f, 0), min(f + pool, n)) for f, n in zip(first, sizes, strict=True))
        for n, c in np.ndindex(2, 2):
            part = x[n, *cells, c]
            share = dx[n, *cells, c]
            if kind == "max":
                expected[n, *position, c] = part.max()
                share[np.unravel_index(part.argmax(), part.shape)] += dy[n, *position, c]
            else:
                expected[n, *position, c] = part.mean()
                share += dy[n, *position, c] / part.size
    assert y.shape == layer.compute_output_shape(x.shape)
    assert np.abs(y - expected).max() <= 8 * pool**rank * EPS
    got = backward(dy)
    assert got.shape == x.shape
    assert np.abs(got - dx).max() <= 8 * pool**rank * EPS * np.abs(dx).max()
    assert backward(dy, need_dx=False) is None


@pytest.mark.parametrize(("kind", "rank"), GLOBAL)
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_layers_leave_one_value_per_channel(kind, rank, keepdims, rng):
    layer = GLOBAL[kind, rank](keepdims=keepdims)
    shape = (2, *(3, 2, 4)[:rank], 3)
    x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)
    axes = tuple(range(1, rank + 1))
    y, backward = layer.forward(x, STEP, True)
    expected = (np.max if kind == "max" else np.mean)(x, axis=axes, keepdims=keepdims)
    assert y.shape == expected.shape == layer.compute_output_shape(shape)
    assert np.abs(y - expected).max() <= x.size * EPS * np.abs(x).max()
    dy = rng.normal(size=y.shape)
    spread = dy.reshape(2, *(1,) * rank, 3)
    dx = spread * (x == x.max(axis=axes, keepdims=True)) if kind == "max" else spread / np.prod(shape[1:-1]) + 0 * x
    assert np.array_equal(backward(dy), dx)
    assert backward(dy, need_dx=False) is None
    assert layer.flops((None, *shape[1:])) == np.prod(shape[1:])
    assert layer(x).dtype == np.float32


@pytest.mark.parametrize("layer", [layers.MaxPooling2D(2), layers.AveragePooling2D(2), layers.GlobalMaxPooling2D()])
def test_inputs_are_left_alone(layer, rng):
    x = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    before = x.copy()
    y, backward = layer.forward(x, STEP, True)
    dy = np.ones_like(y)
    backward(dy)
    assert np.array_equal(x, before)
    assert (dy == 1).all()


def test_flops_count_every_cell_of_every_window():
    assert layers.MaxPooling2D(2).flops((None, 24, 24, 10)) == 12 * 12 * 10 * 4
    assert layers.AveragePooling1D(3, 1).flops((None, 5, 2)) == 3 * 2 * 3
    x, y = Spec(FOUR.shape, FOUR.dtype), Spec((1, 2, 2, 1), FOUR.dtype)
    assert maxpool2d.flops(x, **HALVES) == avgpool2d.flops(x, **HALVES) == 16
    assert maxpool2d_grad.flops(y, x, y, **HALVES) == 2 * avgpool2d_grad.flops(y, size=(4, 4), **HALVES) == 32


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (
            lambda: layers.MaxPooling2D(3),
            (None, 2, 5, 8),
            r"max_pooling2d.* window of 3 does not fit into 2.*\(None, 2",
        ),
        (lambda: layers.AveragePooling1D(4), (None, 3, 8), r"average_pooling1d.* window of 4 does not fit into 3"),
        (lambda: layers.MaxPooling3D((1, 1, 9)), (None, 3, 4, 5, 1), "window of 9 does not fit into 5"),
    ],
)
def test_a_window_that_does_not_fit_is_named(layer, shape, words):
    with pytest.raises(ShapeError, match=words):
        layer().compute_output_shape(shape)


@pytest.mark.parametrize("make", [lambda: layers.MaxPooling2D(), lambda: layers.GlobalAveragePooling2D()])
def test_images_without_a_channel_axis_are_refused(make):
    with pytest.raises(ShapeError, match=r"needs 4 axes.*\(None, 28, 28\)"):
        make()(np.zeros((1, 28, 28)))


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: layers.MaxPooling2D((2, 2, 2)), r"MaxPooling2D\(pool_size=\(2, 2, 2\)"),
        (lambda: layers.MaxPooling2D(0), "pool_size=0"),
        (lambda: layers.MaxPooling2D(2, strides=0), "strides=0"),
        (lambda: layers.MaxPooling2D(padding="full"), "padding='full'"),
        (lambda: layers.MaxPooling2D(data_format="channels_first"), "channels_first"),
        (lambda: layers.GlobalMaxPooling1D(data_format="channels_first"), "channels_first"),
        (lambda: layers.MaxPooling2D(border_mode="same"), "now called padding"),
        (lambda: layers.MaxPooling2D(poolsize=2), "did you mean 'pool_size'"),
    ],
)


test_arrays_that_do_not_fit_are_refused = refuses(
    ShapeError,
    [
        (lambda: maxpool2d(np.ones((2, 2, 1)), **HALVES), r"maxpool2d: x needs 4 axes.*\(2, 2, 1\)"),
        (lambda: avgpool2d(np.ones((1, 1, 2, 1)), **HALVES), r"window of 2 cells does not fit into H = 1"),
        (lambda: maxpool2d(FOUR, **{**HALVES, "padding": ((0, 2), (0, 0))}), r"padding \(0, 2\).*window of 2"),
        (lambda: maxpool2d_grad(FOUR, FOUR, FOUR[:, ::2, ::2], **HALVES), r"dy .*\(1, 4, 4, 1\).*\(1, 2, 2, 1\)"),
        (lambda: maxpool2d_grad(FOUR[:, ::2, ::2], FOUR, FOUR, **HALVES), r"y .*\(1, 4, 4, 1\) but maxpool2d"),
        (lambda: avgpool2d_grad(FOUR, size=(4, 4), **HALVES), r"avgpool2d_grad: dy"),
        (lambda: avgpool2d_grad(FOUR[0], size=(4, 4), **HALVES), "dy needs 4 axes"),
        (lambda: globalavgpool(FOUR), "x needs 3 axes"),
        (lambda: globalavgpool_grad(FOUR, count=2), "dy needs 2 axes"),
        (lambda: globalmaxpool_grad(np.ones((1, 2)), np.ones((1, 3, 3))), r"dy .*\(1, 2\).*\(1, 3\)"),
    ],
)


def test_the_algorithm_reaches_the_op():
    assert layers.MaxPooling2D(algorithm="reference")(FOUR).shape == (1, 2, 2, 1)
    with pytest.raises(RuntimeError, match=r"no .* kernel for this call\. Requested: magic"):
        layers.MaxPooling2D(algorithm="magic")(FOUR)


def test_layers_come_back_from_their_description():
    layer = layers.AveragePooling3D((1, 2, 3), strides=2, padding="same", name="mean")
    again = config.deserialize(config.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert (again.pool_size, again.strides) == ((1, 2, 3), (2, 2, 2))
