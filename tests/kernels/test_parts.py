"""Into how many parts the sums of a product are cut, and the kernels that add the parts up."""

import importlib

import needs
import numpy as np
import pytest

from gpucnn.devices import storage
from gpucnn.devices.emulator.launching import running
from gpucnn.dispatch import choice, precision
from gpucnn.ops.fused import matmul_bias_activation
from gpucnn.ops.matmul import matmul


def module_of(op, algorithm):
    """The file of a kernel."""
    return importlib.import_module(op.kernels(("cuda",))[f"{algorithm}_cuda"].launch.__module__)


ORDINARY, TENSOR = module_of(matmul, "warptiled").product_plan, module_of(matmul, "tensor").tensor_plan
LAUNCH = importlib.import_module(ORDINARY.__module__)


@pytest.mark.parametrize(
    ("plan", "M", "N", "K", "parts"),
    [
        pytest.param(TENSOR, 128 * 11 * 11, 64, 9 * 32, 1, id="mnist_convnet_2: 121 blocks for 132 multiprocessors"),
        pytest.param(TENSOR, 128 * 14 * 14, 32, 9 * 64, 1, id="mlearning_3_grad_input: parts of 3 MB"),
        pytest.param(TENSOR, 3136, 128, 128, 1, id="mlearning_5_grad_weight: short sums"),
        pytest.param(TENSOR, 128, 3136, 128, 1, id="mlearning_5_grad_input: short sums"),
        pytest.param(ORDINARY, 1600, 10, 128, 1, id="mnist_convnet_3_grad_weight: less work than one more kernel"),
        pytest.param(TENSOR, 100 * 12 * 12, 32, 25 * 64, 4, id="torres_2_grad_input: 2 of 4 schedulers had a warp"),
        pytest.param(TENSOR, 512, 512, 7200, 4, id="cifar_3: 64 blocks and long sums"),
        pytest.param(TENSOR, 288, 32, 512 * 30 * 30, 176, id="cifar_2_grad_weight: 3 blocks and very long sums"),
        pytest.param(ORDINARY, 128, 10, 1600, 25, id="mnist_convnet_3: 2 blocks"),
    ],
)
def test_sums_are_cut_as_long_as_parts_cost_less_than_idle_multiprocessors(plan, M, N, K, parts):
    assert plan(M, N, K).parts == parts


RATES = importlib.import_module(TENSOR.__module__).RATES


@pytest.mark.parametrize(
    ("plan", "kind", "rate"),
    [(ORDINARY, "float32", LAUNCH.RATE), *((TENSOR, kind, rate) for kind, rate in RATES.items())],
)
def test_parts_cover_the_sum_and_are_estimated_to_save_time(plan, kind, rate):
    for M, N in ((64, 32), (800, 64), (6400, 64), (100352, 32)):
        for K in (1, 63, 64, 288, 1000, 6400, 100352):
            with precision.scope(kind):
                cut = plan(M, N, K)
            whole = cut._replace(parts=1, length=-(-K // cut.tile.TILE_K) * cut.tile.TILE_K)
            assert (cut.parts - 1) * cut.length < K <= cut.parts * cut.length
            assert cut.length % cut.tile.TILE_K == 0
            assert cut.parts == 1 or cut.microseconds(M * N, 1, rate) < whole.microseconds(M * N, 1, rate)


def added_up(parts, bias=None, shift=0):
    """What the kernels make of the parts of a result, which starts `shift` floats after a multiple
    of 16 bytes."""
    if bias is None:
        function, end = module_of(matmul, "tensor").sum_parts, None
    else:
        function, end = (
            module_of(matmul_bias_activation, "tensor").sum_parts_bias_activation,
            LAUNCH.End(bias, "relu", 0.0),
        )
        function = function.define(**end.macros())
    count, size = parts.shape
    plan = TENSOR(64, 32, 64)._replace(parts=count)
    with choice.using("cuda", device="emulator"), running(mode="check"):
        y = storage.empty((size + shift,), parts.dtype)[shift:]
        end = end and end._replace(bias=storage.put(bias))
        LAUNCH.join(function, plan, y, storage.put(parts), end)
        return y.get()


@needs.emulator_here
@pytest.mark.parametrize("size", [1, 3, 4, 250, 720])
@pytest.mark.parametrize("count", [2, 3, 8, 9, 17, 200, 523])
def test_parts_are_added_up_each_once(count, size, rng):
    parts = rng.integers(-1000, 1000, (count, size)).astype(np.float32)
    np.testing.assert_array_equal(added_up(parts), parts.sum(axis=0))


@needs.emulator_here
def test_parts_are_added_up_where_the_result_is_not_aligned(rng):
    parts = rng.integers(-1000, 1000, (9, 40)).astype(np.float32)
    np.testing.assert_array_equal(added_up(parts, shift=1), parts.sum(axis=0))


@needs.emulator_here
@pytest.mark.parametrize("K", [1, 2, 3, 5, 12])
def test_a_sum_of_parts_is_finished_with_the_bias_of_its_column(K, rng):
    parts, b = rng.integers(-9, 9, (3, 7 * K)).astype(np.float32), rng.integers(-9, 9, K).astype(np.float32)
    np.testing.assert_array_equal(added_up(parts, b), np.maximum(parts.sum(axis=0) + np.tile(b, 7), 0))
