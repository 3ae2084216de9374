"""What the cases of the convolutions do not cover on the CPU: several threads, and registers of
another width than this machine's."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba.core.registry import cpu_target

from gpucnn.devices import threads
from gpucnn.dispatch.check import cases_for
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight
from gpucnn.ops.epilogue import end
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_maxpool_grad_weight

OPS = (conv2d, conv2d_grad_input, conv2d_grad_weight, conv3d, conv3d_grad_input, conv3d_grad_weight)
KERNELS = [kernel for op in OPS for kernel in op.kernels(("njit",)).values()]
UNPOOLED = conv2d_maxpool_grad_weight.kernels(("njit",)).values()
FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")

pytestmark = pytest.mark.jit


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_case_has_a_compiled_kernel(op):
    for case in op.cases:
        assert op.find(case.specs, case.params).backend == "njit", case.name


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.id}-{k.op.name}")
def test_the_number_of_threads_does_not_change_a_bit(kernel, monkeypatch, rng):
    run = threads.run
    monkeypatch.setattr(threads, "run", lambda task, count, parallel=True: run(task, count))
    try:
        for case in cases_for(kernel):
            operands, results = [draw.sample(rng) for draw in case.operands], set()
            for count in (1, 2, 3):
                threads.use(count)
                results.add(kernel.op(*operands, algorithm=kernel.algorithm, **case.params).tobytes())
            assert len(results) == 1, case.name
    finally:
        threads.use()


@pytest.mark.parametrize(("size", "count"), [(8, 2), (9, 1), (12, 4), (15, 5)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_few_filters_compute_several_results_of_a_line_together(size, count, channels, rng):
    from gpucnn.kernels.shared.side_by_side_njit import wide
    from gpucnn.kernels.shared.tile_njit import WIDTH

    window = {"strides": (2, 1), "padding": ((1, 0), (1, 1)), "dilation": (1, 1)}
    weight = rng.standard_normal((3, 3, channels, WIDTH // count), np.float32)
    assert wide(weight.shape, size, **window).count == count
    x = rng.standard_normal((5, 7, size, channels), np.float32)
    y = conv2d(x, weight, algorithm="implicit_gemm", groups=1, **window)
    expected = conv2d.body(x.astype(np.float64), weight.astype(np.float64), groups=1, **window)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5, 6, 7])
@pytest.mark.parametrize("images", [7, 17, 23, 38])
def test_small_images_that_share_tiles_are_written_once_and_nothing_behind_them(images, size, rng):
    window = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    x = rng.standard_normal((images, size, size, 4), np.float32)
    weight, b = rng.standard_normal((3, 3, 4, 20), np.float32), rng.standard_normal(20, np.float32)
    room = np.full(images * size * size * 20 + 512, 7, np.float32)
    y = room[:-512].reshape(images, size, size, 20)

    def run(x, out=None):
        params = {**end("tanh"), "keep_input": False, "algorithm": "implicit_gemm", **window}
        return conv2d_bias_activation(x, weight, b, **params, out=out)

    run(x, y)
    assert (room[-512:] == 7).all()
    assert y.tobytes() == b"".join(run(one[None]).tobytes() for one in x)


AGREE = """
from gpucnn.dispatch.check import cases_for, disagreement
from gpucnn.kernels.shared.tile_njit import WIDTH
from gpucnn.profiling.trials import every_op

assert WIDTH == 8
for op in every_op():
    if op.family in ("conv2d", "conv3d", "fused", "bias_activation"):
        for kernel in op.kernels(("njit",)).values():
            for case in cases_for(kernel):
                fault = disagreement(kernel, case)
                assert fault is None, fault
"""


@pytest.mark.parametrize("filters", [3, 16, 40])
@pytest.mark.parametrize(("size", "channels"), [(3, 1), (5, 1), (7, 1), (3, 3), (1, 5)], ids=str)
@pytest.mark.parametrize("kernel", UNPOOLED, ids=lambda k: k.id)
def test_a_value_that_has_lost_its_window_is_not_multiplied(kernel, size, channels, filters, rng):
    window = {"strides": (1, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 1)}
    x = rng.standard_normal((3, 12, 12, channels), np.float32)
    dy = rng.standard_normal((3, (13 - size + 1) // 2, (13 - size + 1) // 2, filters), np.float32)
    index = rng.integers(0, 5, dy.shape, np.uint8)
    x[0, 5, 6], index[0] = np.inf, np.where(np.arange(filters) % 2, 4, index[0])
    dy[0, ..., ::2] = 0
    results = conv2d_maxpool_grad_weight(
        dy, index, x, kernel_size=(size, size), algorithm=kernel.algorithm, **window
    )  # fmt: skip
    x[0, 5, 6] = 0
    expected = conv2d_maxpool_grad_weight.reference(
        *(a.astype(np.float64) if a.dtype == np.float32 else a for a in (dy, index, x)),
        kernel_size=(size, size),
        **window,
    )
    for result, correct in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, correct, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif("+avx512f" not in FEATURES, reason="the registers of this machine have this width already")
def test_kernels_agree_when_registers_have_256_bits():
    narrow = ",".join(f"-{f[1:]}" if "avx512" in f or "evex512" in f else f for f in FEATURES)
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": narrow}
    result = subprocess.run([sys.executable, "-c", AGREE], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
