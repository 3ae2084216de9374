"""Convolutions on tensor cores that keep the cells of their windows in shared memory: planted faults, what only
large batches bring to a block, and which layers are computed so."""

# ruff: noqa: E501 - tables with a case in each line

import importlib
import re

import needs
import numpy as np
import pytest

import gpucnn
from gpucnn import places
from gpucnn.devices import emulator, storage
from gpucnn.dispatch import choice, precision
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.check import disagreement
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from gpucnn.ops.fused import conv2d_bias_activation_maxpool

pytestmark = [needs.emulator_here, needs.nvrtc_here, pytest.mark.usefixtures("loading_on_the_emulator")]

OPS = {
    "conv2d_halo": conv2d,
    "conv2d_grad_input_halo": conv2d_grad_input,
    "conv2d_grad_weight_halo": conv2d_grad_weight,
}
for op in (*OPS.values(), conv2d_bias_activation_maxpool):
    op.kernels(("cuda",))  # imported before the fixture, which forgets what is imported later
HEADERS = ("halo.cuh", "cells.cuh", "factors.cuh", "slabs.cuh")
READY = 'asm volatile("cp.async.wait_all;" ::: "memory");'

FAULTS = [
    # (kernel, file, what it has, what it gets, precision, mode, what the report must say; None: it costs time alone)
    ("conv2d_halo", "halo.cuh", READY, "", "tf32", "check", "which a cp\\.async is still filling"),
    ("conv2d_halo", "halo.cuh", "__syncthreads();  // the current slab", "// the current slab", "tf32", "check", "still filling|data race on"),
    ("conv2d_halo", "halo.cuh", "__syncthreads();  // nobody reads the channels", "// nobody reads the channels", "bfloat16", "check", "data race on"),
    ("conv2d_halo", "halo.cuh", "(r * windows.dilation_h * halo.columns + s * windows.dilation_w)", "(r * halo.columns + s)", "tf32", "fast", "values are wrong"),
    ("conv2d_halo", "cells.cuh", "windows.cell(image, h, windows.first_w + place)", "windows.cell(image, h, place)", "tf32", "check", "conv2d_halo: block .* reads .*x, "),
    ("conv2d_halo", "cells.cuh", "h = windows.first_h, ++image;", "++image;", "bfloat16", "fast", "values are wrong"),
    ("conv2d_halo", "halo.cuh", "int place_of(int i) { return i % 2 * 4 + i / 4 % 2 * 2 + i / 2 % 2; }", "int place_of(int i) { return i % 2 * 4 + i / 2 % 2 * 2 + i / 4 % 2; }", "tf32", "fast", "values are wrong"),
    ("conv2d_grad_input_halo", "halo.cuh", "(TURNED ? taps - 1 - tap : tap)", "tap", "tf32", "fast", "values are wrong"),
    ("conv2d_grad_weight_halo", "halo_weight_cuda.cu", READY, "", "float32", "check", "which a cp\\.async is still filling"),
    ("conv2d_grad_weight_halo", "halo_weight_cuda.cu", "t ^ g / 2", "t", "float32", "fast", None),
    ("conv2d_grad_weight_halo", "halo_weight_cuda.cu", "p < high && q < Q ?", "p < high ?", "float32", "fast", "values are wrong"),
    ("conv2d_grad_weight_halo", "halo_weight_cuda.cu", "if (slice == 0)\n#pragma unroll\n            for (int i = 0; i < COUNT; ++i) all[0][i] += of_lane[i * 32];", "", "tf32", "fast", "values are wrong"),
    ("conv2d_grad_weight_halo", "halo_weight_cuda.cu", "slab * SLAB + t + r * dilation_h * columns", "slab * SLAB + t + r * columns", "tf32", "fast", "values are wrong"),
]  # fmt: skip


def kernel_with(folder, function, file=None, sound="", faulty=""):
    """The kernel of a function, with a fault in its file or one of its headers."""
    folder.mkdir()
    kernels, op = places.folder_of_kernels(), OPS[function]
    stem = "halo_weight_cuda" if op is conv2d_grad_weight else "halo_cuda"
    launch = (kernels / "conv2d" / f"{stem}.py").read_text().replace("from ..shared", "from gpucnn.kernels.shared")
    (folder / f"{stem}.py").write_text(launch.replace('"halo"', '"planted"'))
    for name in (*HEADERS, f"{stem}.cu"):
        text = (kernels / ("conv2d" if name.endswith(".cu") else "include") / name).read_text()
        if name == file:
            assert text.count(sound) == 1, "the fault is planted once"
            text = text.replace(sound, faulty)
        (folder / name).write_text(text)
    return next(kernel for kernel in gpucnn.load(folder / f"{stem}.py") if kernel.op is op)


def cases_of(op):
    """One with images whose windows are neighbours, padding on all sides and channels beyond a slab, and one with
    dilation."""
    return [case for case in op.cases if case.name in ("quads_across_images", "quads_far_apart")]


@pytest.mark.parametrize(("function", "file", "sound", "faulty", "kind", "mode", "message"), FAULTS)
def test_a_fault_is_found(tmp_path, function, file, sound, faulty, kind, mode, message):
    kernel = kernel_with(tmp_path / "faulty", function, file, sound, faulty)
    with emulator.running(mode=mode), precision.scope(kind):
        reports = [disagreement(kernel, case) for case in cases_of(OPS[function])]
    if message is None:
        assert reports == [None, None]
    else:
        assert any(report and re.search(message, report, re.DOTALL) for report in reports), reports


@pytest.mark.parametrize("kind", precision.PRECISIONS)
@pytest.mark.parametrize("function", OPS)
def test_the_sound_kernel_is_right_and_meets_each_bank_once(tmp_path, function, kind):
    case = next(case for case in OPS[function].cases if case.name == "quads_across_images")
    with emulator.running(mode="check", count=True) as running, precision.scope(kind):
        assert disagreement(kernel_with(tmp_path / "sound", function), case) is None
    counts = [statistics for launch, statistics in running.launches if "sum_parts" not in str(launch)]
    excess = sum(c.shared_wavefronts for c in counts) / sum(c.ideal_shared_wavefronts for c in counts)
    assert excess < 1.2


@pytest.mark.parametrize(
    ("kind", "filter_"),
    [*((kind, (3, 3)) for kind in precision.PRECISIONS), ("tf32", (5, 5)), ("bfloat16", (2, 6)), ("tf32", (1, 1))],
)
def test_a_block_takes_many_tiles_of_a_large_batch(monkeypatch, kind, filter_, rng):
    file = importlib.import_module(conv2d_grad_weight.kernels(("cuda",))["halo_cuda"].launch.__module__)
    monkeypatch.setattr(file, "MULTIPROCESSORS", 1)
    file.plan_of.cache_clear()
    R, S = filter_
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 7, 8, 8), (9, 10 - R, 11 - S, 12)))
    params = {"padding": ((1, 1), (1, 1)), "dilation": (1, 1), "kernel_size": filter_, "groups": 1, "strides": (1, 1)}
    try:
        with precision.scope(kind), choice.using("cuda", conv2d_grad_weight="halo"):
            plan = file.planned(*(Spec(a.shape, a.dtype) for a in (dy, x)), kernel_size=filter_, dilation=(1, 1))
            got = storage.get(conv2d_grad_weight(storage.put(dy), storage.put(x), **params))
    finally:
        file.plan_of.cache_clear()
    assert plan.of_part > 1
    factors = [precision.rounded(array, kind).astype(np.float64) for array in (dy, x)]
    exact, sizes = (conv2d_grad_weight.body(*arrays, **params) for arrays in (factors, map(np.abs, factors)))
    terms = dy[..., 0].size
    bound = 4 + terms**0.5 + (kind != precision.FLOAT32) * terms / 8
    np.testing.assert_array_less(np.abs(got - exact), bound * np.finfo(np.float32).eps * sizes)


def chosen(op, kind, *shapes, **params):
    """The algorithm that "auto" takes on a GPU."""
    with precision.scope(kind), choice.using("cuda"):
        return op.find(tuple(Spec(shape, np.dtype(np.float32)) for shape in shapes), params).algorithm


SAME5 = {"strides": (1, 1), "padding": ((2, 2), (2, 2)), "dilation": (1, 1)}
VALID = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}


@pytest.mark.parametrize(
    ("kind", "forward", "weight"),
    [("float32", "pooled_tensor", "halo"), ("tf32", "halo", "halo"), ("bfloat16", "halo", "halo")],
)
def test_the_second_convolution_of_cifar(kind, forward, weight):
    relu = {"function": "relu", "alpha": 0.0}
    assert (
        chosen(conv2d_bias_activation_maxpool, kind, (512, 32, 32, 32), (3, 3, 32, 32), (32,), **relu, **VALID)
        == forward
    )
    x, dy = (512, 32, 32, 32), (512, 30, 30, 32)
    assert chosen(conv2d_grad_weight, kind, dy, x, kernel_size=(3, 3), groups=1, **VALID) == weight


@pytest.mark.parametrize(("kind", "algorithm"), [("float32", "tensor"), ("tf32", "halo")])
def test_the_second_convolution_of_mlearning(kind, algorithm):
    x = (128, 28, 28, 32)
    assert chosen(conv2d_grad_weight, kind, x, x, kernel_size=(5, 5), groups=1, **SAME5) == algorithm
    assert chosen(conv2d_grad_input, kind, x, (5, 5, 32, 32), size=(28, 28), groups=1, **SAME5) == algorithm


@pytest.mark.parametrize("kind", precision.PRECISIONS)
def test_few_images_and_many_filters_are_left_to_the_tiles_of_a_product(kind):
    assert chosen(conv2d, kind, (128, 14, 14, 32), (3, 3, 32, 64), groups=1, **VALID) == "tensor"
    assert (
        chosen(conv2d_grad_weight, kind, (100, 8, 8, 64), (100, 12, 12, 32), kernel_size=(5, 5), groups=1, **VALID)
        == "tensor"
    )
