"""One fault in the kernels that fuse pooling or dropout, read images of few channels, share a tile among warps, skip dead
taps, or gather a batch: the check must find it."""

# ruff: noqa: E501 - tables with a case in each line

import re

import needs
import pytest

import gpucnn
from gpucnn import places
from gpucnn.devices import emulator
from gpucnn.dispatch.check import disagreement
from gpucnn.ops.batch import gather_batch
from gpucnn.ops.conv2d import conv2d_grad_input
from gpucnn.ops.dense import dense_grad, dense_softmax_cross_entropy
from gpucnn.ops.fused import (
    conv2d_bias_activation,
    conv2d_bias_activation_dropout,
    conv2d_bias_activation_grad_weight,
    conv2d_bias_activation_maxpool,
    conv2d_maxpool_grad_input,
    conv2d_maxpool_grad_sums,
    conv2d_maxpool_grad_weight,
    matmul_bias_activation_dropout,
)

pytestmark = [needs.emulator_here, needs.nvrtc_here, pytest.mark.usefixtures("loading_on_the_emulator")]

TENSOR, ROWS, GATHER = "fused/pooled_tensor", "fused/rows", "batch/gather"
WARPS = "fused/warptiled"
FEW, SPARSE, DIRECT = "fused/few_channels", "fused/sparse", "fused/pooled_direct"
POOLED, CONV, DENSE, HEAD = "fused/pooled_gemm", "conv2d/implicit_gemm", "dense/sliced", "dense/rows"
FORWARD, DX, DWEIGHT = conv2d_bias_activation_maxpool, conv2d_maxpool_grad_input, conv2d_maxpool_grad_weight
Y, DY = conv2d_bias_activation, conv2d_bias_activation_grad_weight
DROPPED, DENSE_DROPPED = conv2d_bias_activation_dropout, matmul_bias_activation_dropout
RACE = r"data race on __shared__|uninitialised: nobody has written it"
WRONG = "values are wrong"

FAULTS = {
    # kernel, op, case, file, what it has, what it gets, mode, what the report must say
    "two cells of a window exchanged": (POOLED, FORWARD, "same", "windows.cuh", "2 * number.middle + (number.low >> 1 & 1), (number.low >> 1 & ~1) + (number.low & 1)", "2 * number.middle + (number.low & 1), (number.low >> 1 & ~1) + (number.low >> 1 & 1)", "fast", WRONG),
    "the last of equal sums wins": (POOLED, FORWARD, "same", "largest.cuh", "!(sum <= best) && best == best", "sum >= best", "fast", WRONG),
    "no dead windows": (POOLED, FORWARD, "same", "largest.cuh", "if (FUNCTION == RELU && best <= 0.f) cell = DEAD;", "", "fast", WRONG),
    "bias after the activation": (POOLED, FORWARD, "same", "largest.cuh", "best += bias;", "", "fast", WRONG),
    "bits of the index swapped in dx": (POOLED, DX, "ragged", "input_gradient.cuh", "unpooled(dy[one], index[one], inside ? (h & 1) * 2 + (w & 1) : NO_CELL)", "unpooled(dy[one], index[one], inside ? (w & 1) * 2 + (h & 1) : NO_CELL)", "fast", WRONG),
    "bits of four indices in the wrong order": (POOLED, DX, "multiples_of_4", "unpool.cuh", "cells >> 8 & 255", "cells >> 16 & 255", "fast", WRONG),
    "cells outside of dy unpooled": (POOLED, DX, "ragged", "input_gradient.cuh", "inside ? (h & 1) * 2 + (w & 1) : NO_CELL);\n    }\n};", "(h & 1) * 2 + (w & 1));\n    }\n};", "fast", WRONG),
    "db without its last part": (POOLED, DWEIGHT, "many_images", "pooled_gemm_cuda.cu", "total = total + quads[i];", "if (i == 0 && k < 8) total = total + quads[i];", "fast", WRONG),
    "db beyond the last window": (POOLED, DWEIGHT, "same", "pooled_gemm_cuda.cu", "int cell = window < end ? int(window % 4) : NO_CELL;", "int cell = window % 4;", "fast", WRONG),
    "image of few channels not awaited": (FEW, Y, "same", "few_channels_cuda.cu", "__syncthreads();  // the weights and the band are complete", "", "check", RACE),
    "no padding on the left": (FEW, Y, "same", "stage.cuh", "w = left + at;", "w = at;", "fast", WRONG),
    "results beyond the last window": (FEW, Y, "strided", "few_channels_cuda.cu", "if (q + i < Q) *(float4*)", "*(float4*)", "fast", "writes outside of output 0"),
    "one filter without slope": (FEW, DY, "same", "few_channels_cuda.cu", "gradient_at_result(FUNCTION, scale * gradient.z, result.z, alpha)", "gradient.z", "fast", WRONG),
    "windows beyond a row added": (FEW, DY, "same", "few_channels_cuda.cu", "if (windows == WINDOWS)", "if (true)", "fast", WRONG),
    "the last lane left out": (FEW, DY, "a_line_of_filters", "few_channels_cuda.cu", "other < lanes; ++other", "other < lanes - 1; ++other", "fast", WRONG),
    "rows of a filter in the wrong place": (FEW, DY, "quads_of_tall_filters", "few_channels_cuda.cu", "row * ROWS * TAPS + tap", "row * TAPS + tap", "fast", WRONG),
    "sums over a band that is still read": (FEW, DY, "a_line_of_filters", "few_channels_cuda.cu", "__syncthreads();  // nobody reads the band, or the sums before, any more", "", "check", RACE),
    "words of other windows": (FEW, DROPPED, "a_line_of_filters_dropped_mostly", "few_channels_cuda.cu", "unsigned(to + i * K - y)", "unsigned(to - y)", "fast", WRONG),
    "dy not scaled": (FEW, DY, "a_line_of_filters_scaled", "few_channels_cuda.cu", "scale * gradient.z", "gradient.z", "fast", WRONG),
    "words of the first part of a batch": (WARPS, DENSE_DROPPED, "quads_part_of_a_batch", "dropping.cuh", "counter + first / 4", "first / 4", "fast", WRONG),
    "kept values not scaled": (WARPS, DENSE_DROPPED, "quads_kept_mostly", "dropping.cuh", "0.f : x * scale", "0.f : x", "fast", WRONG),
    "parts dropped one by one": (WARPS, DENSE_DROPPED, "long_dropped_mostly", "bias_activation.cuh", "return whole ? dropping(four, unsigned(to - y)) : four;", "return dropping(four, unsigned(to - y));", "fast", WRONG),
    "sums of parts not dropped": (WARPS, DENSE_DROPPED, "long_dropped_mostly", "bias_activation.cuh", "return dropping(make_float4(four[0], four[1], four[2], four[3]), i);", "return make_float4(four[0], four[1], four[2], four[3]);", "fast", WRONG),
    "values of dead windows listed": (SPARSE, DWEIGHT, "ragged", "sparse_cuda.cu", "cell < DEAD ? value : 0.f", "value", "fast", WRONG),
    "db of one lane": (SPARSE, DWEIGHT, "same", "sparse_cuda.cu", "total += exchange[RUN * items];", "", "fast", WRONG),
    "lists not awaited": (SPARSE, DWEIGHT, "same", "sparse_cuda.cu", "__syncthreads();  // the list and the image are complete", "", "check", RACE),
    "a tap beyond the filter": (SPARSE, DX, "same", "sparse_cuda.cu", "(unsigned)(w - one.column) < (unsigned)S", "(unsigned)(w - one.column) <= (unsigned)S", "fast", WRONG),
    "shares not awaited": (SPARSE, DX, "same", "sparse_cuda.cu", "__syncthreads();  // the sums of all shares", "", "check", RACE),
    "cells of a direct window exchanged": (DIRECT, FORWARD, "same", "pooled_direct_cuda.cu", "above[tap + NEXT], below[tap], below", "below[tap], above[tap + NEXT], below", "fast", WRONG),
    "edges of rows not checked": (DIRECT, FORWARD, "same", "stage.cuh", "(unsigned)h < (unsigned)H && (unsigned)w < (unsigned)floats", "(unsigned)h < (unsigned)H", "fast", WRONG),
    "a direct image not awaited": (DIRECT, FORWARD, "same", "pooled_direct_cuda.cu", "__syncthreads();  // the weights and the image are complete", "", "check", RACE),
    "parts of one cell twice": (TENSOR, FORWARD, "quads_of_many_channels", "pooled_tensor_cuda.cu", "size * 4 + cell * K", "size * 4 + cell / 2 * K", "fast", WRONG),
    "parts joined before they are written": (TENSOR, FORWARD, "quads_of_many_channels", "pooled_tensor_cuda.cu", "__syncthreads();  // the sums of the other half", "", "check", RACE),
    "dead windows in db": (ROWS, conv2d_maxpool_grad_sums, "multiples_of_4", "rows_cuda.cu", "total + alive(gradient, cells)", "total + gradient", "fast", WRONG),
    "an odd edge not written": (ROWS, conv2d_maxpool_grad_sums, "multiples_of_4", "rows_cuda.cu", "if (p + 3 == P || q + 3 == Q)", "if (p + 3 == P)", "fast", "is nan"),
    "labels in turn with the images of a ring": (GATHER, gather_batch, "ring", "gather_cuda.cu", "shuffle && !(ring && chunk)", "shuffle && !ring", "fast", WRONG),
    "a sample read before it is known": (GATHER, gather_batch, "classes", "gather_cuda.cu", "__syncthreads();  // the row's sample is known", "", "check", RACE),
    "an epoch of one more batch": (GATHER, gather_batch, "two", "gather_cuda.cu", "counters[0] + 1 >= steps", "counters[0] + 1 > steps + 6", "fast", WRONG),
    "a live tap dead": (CONV, conv2d_grad_input, "many_images", "input_gradient.cuh", "min(remainder.taps, reach / dilation + 1)", "min(remainder.taps, reach / dilation)", "fast", WRONG),
    "a live tap at the end dead": (CONV, conv2d_grad_input, "ragged", "input_gradient.cuh", "beyond > 0 ? (beyond + dilation - 1) / dilation : 0", "beyond >= 0 ? beyond / dilation + 1 : 0", "fast", WRONG),
    "taps of the first row alone": (CONV, conv2d_grad_input, "same", "input_gradient.cuh", "live_rows(rows, P, down, top_row, bottom_row)", "live_rows(rows, P, down, top_row, top_row)", "fast", WRONG),
    "a slice left out": (DENSE, dense_grad, "quads", "gemm.cuh", "for (int half = SLICES / 2; half > 0; half /= 2) {\n        int slice", "for (int half = SLICES / 2; half > 1; half /= 2) {\n        int slice", "fast", WRONG),
    "slices read before they are written": (DENSE, dense_grad, "quads", "gemm.cuh", "__syncthreads();  // the sums of the givers", "", "check", RACE),
    "no slope": (DENSE, dense_grad, "quads", "sliced_cuda.cu", "quads[i].z = results[i].z <= 0.f ? 0.f : quads[i].z;", "", "fast", WRONG),
    "totals read before they are written": (DENSE, dense_grad, "quads", "slab_totals.cuh", "__syncthreads();  // waits for the totals of all threads", "", "check", RACE),
    "a warp's sums left out": (HEAD, dense_softmax_cross_entropy, "long", "rows_cuda.cu", "other < WARPS; ++other", "other < WARPS - 1; ++other", "fast", WRONG),
    "warps not awaited": (HEAD, dense_softmax_cross_entropy, "long", "rows_cuda.cu", "__syncthreads();  // the sums of all warps", "", "check", RACE),
    "no factor": (HEAD, dense_softmax_cross_entropy, "ragged", "rows_cuda.cu", " * factors[n]", "", "fast", WRONG),
}  # fmt: skip

for _op in {op for _, op, *_ in FAULTS.values()}:
    _op.kernels(("cuda",))  # imported before the fixture, which forgets what is imported later


def kernel_with(folder, ident, op, file=None, sound="", faulty=""):
    """The op's kernel of a file, with a fault in it or in one of its headers."""
    family, algorithm = ident.split("/")
    kernels = places.folder_of_kernels()
    launcher = (kernels / f"{ident}_cuda.py").read_text().replace("from ..shared", "from gpucnn.kernels.shared")
    (folder / f"{algorithm}_cuda.py").write_text(launcher.replace(f'"{algorithm}"', '"planted"'))
    sources = {f"{algorithm}_cuda.cu": kernels / family / f"{algorithm}_cuda.cu"}
    sources |= {path.name: path for path in (kernels / "include").glob("*.cuh")}
    for name, path in sources.items():
        text = path.read_text()
        if name == file:
            assert text.count(sound) == 1, "the fault is planted once"
            text = text.replace(sound, faulty)
        (folder / name).write_text(text)
    return next(kernel for kernel in gpucnn.load(folder / f"{algorithm}_cuda.py") if kernel.op is op)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(tmp_path, fault):
    ident, op, name, file, sound, faulty, mode, message = FAULTS[fault]
    case = next(case for case in op.cases if case.name == name)
    with emulator.running(mode=mode):
        report = disagreement(kernel_with(tmp_path, ident, op, file, sound, faulty), case)
    assert report is not None
    assert re.search(message, report, re.DOTALL), report


@pytest.mark.parametrize(("ident", "op"), sorted({(f[0], f[1]) for f in FAULTS.values()}, key=str))
def test_the_sound_kernel_is_right(tmp_path, ident, op):
    for name in {f[2] for f in FAULTS.values() if f[:2] == (ident, op)}:
        case = next(case for case in op.cases if case.name == name)
        with emulator.running(mode="check"):
            assert disagreement(kernel_with(tmp_path, ident, op), case) is None
