"""The gradient of a convolution by its images sums over those taps alone that reach a window."""

import importlib
import math

import needs
import numpy as np
import pytest

from gpucnn import places
from gpucnn.devices import emulator
from gpucnn.dispatch import choice
from gpucnn.ops.conv2d import conv2d_grad_input
from gpucnn.ops.fused import conv2d_maxpool_grad_input
from gpucnn.profiling import benchmark, launches

MOST = 1.05
"""Taps that are summed over, of those that reach a window."""

REDUNDANT = 0.07
"""Loads that NVRTC may leave in its PTX, which the emulator runs, beyond those of the text: which ones depends on the
addresses at which it is loaded in this process. ptxas drops them: the machine code is the same. Dead taps would add
half of the count."""

products = importlib.import_module("gpucnn.kernels.shared.convolution_products")
KERNEL = conv2d_grad_input.kernels(("cuda",))["implicit_gemm_cuda"]
COURSE = [case for case in conv2d_grad_input.cases if case.bench]


def reached(dy, weight, size, strides, padding, dilation):
    """How many pairs of a cell and a tap meet a window, counted one by one."""
    counts = []
    for cells, windows, taps, stride, (before, _), spread in zip(
        size, dy[1:3], weight[:2], strides, padding, dilation, strict=True
    ):
        p, r = np.meshgrid(np.arange(windows), np.arange(taps))
        place = p * stride + r * spread - before
        counts.append(int(((place >= 0) & (place < cells)).sum()))
    return dy[0] * math.prod(counts)


def summed(kernel, dy, weight, tile_m, size, strides, padding, dilation):
    """How many pairs of a row and a tap the kernel's tiles have."""
    tiles = products.live_terms(tile_m, dy, weight[:2], size, strides, padding, dilation)
    return sum(int((rows * taps).sum()) for rows, taps in tiles)


def window_of(params):
    return [params[name] for name in ("size", "strides", "padding", "dilation")]


@pytest.mark.parametrize("case", COURSE, ids=lambda case: case.name)
def test_hardly_a_multiplication_is_by_padding(case):
    dy, weight = (spec.shape for spec in case.specs)
    (launch, *_) = launches.launches(KERNEL, case)
    tile_m = launch.function.defines["TILE_M"]
    useful = reached(dy, weight, *window_of(case.params))
    assert useful <= summed(KERNEL, dy, weight, tile_m, *window_of(case.params)) <= MOST * useful


SMALL = [c for c in conv2d_grad_input.cases if not c.bench and KERNEL.serves(c.specs, c.params)]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_tiles_of_one_row_sum_over_what_is_reached(case):
    dy, weight = (spec.shape for spec in case.specs)
    window = window_of(case.params)
    assert summed(KERNEL, dy, weight, 1, *window) == reached(dy, weight, *window)


def slabs_counted(kernel, case):
    """How many slabs the warps of a kernel multiply: the loads of `multiply_slab`, counted by the emulator."""
    text = (places.folder_of_kernels() / "include" / "gemm.cuh").read_text().splitlines()
    line = next(i for i, code in enumerate(text, 1) if "*(const float4*)(shared + i * APART)" in code)
    with choice.using("cuda", device="emulator"), emulator.running(mode="check", count=True) as settings:
        benchmark.Call(kernel, case).run()
    (launch, *_) = launches.launches(kernel, case)
    tile = launch.function.defines
    requests = settings.launches[0][1].lines[f"gemm.cuh:{line}"].requests
    of_a_slab = launch.threads // 32 * (tile["TILE_K"] // tile["SLICES"]) * (8 + tile["THREAD_N"]) // 4
    return requests / of_a_slab, 2 * tile["TILE_M"] * tile["TILE_N"] * tile["TILE_K"]


@needs.emulator_here
@needs.compilers_here
@pytest.mark.parametrize("op", [conv2d_grad_input, conv2d_maxpool_grad_input], ids=str)
@pytest.mark.parametrize("name", ["ragged", "same", "strided", "many_images", "quads_of_many_channels"])
def test_a_kernel_multiplies_as_many_slabs_as_it_states(op, name):
    kernel = next(k for k in op.kernels(("cuda",)).values() if k.executed)
    case = next(case for case in op.cases if case.name == name)
    slabs, flops = slabs_counted(kernel, case)
    total, longest = kernel.executed(*case.specs, **case.params)
    assert total / flops <= slabs <= (1 + REDUNDANT) * total / flops
    assert longest <= total
