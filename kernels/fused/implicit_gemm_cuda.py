"""Implicit GEMM with bias, activation and dropout at its end: the sums are finished in registers, before
they are written.

The convolution is that of `conv2d/implicit_gemm`. Apart, bias, activation and dropout each read and write
the result again, 8 bytes for each value, and are launches of their own. Where the sums are cut into
parts, the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation, conv2d_bias_activation_dropout

from ..shared.gemm_launch import FLOAT32, LARGE, Drop, End
from ..shared.implicit_gemm_launch import forward, workspace

conv2d_bias_activation_implicit_gemm = cuda_function(
    __file__, "conv2d_bias_activation_implicit_gemm", **LARGE._asdict()
)
sum_parts_bias_activation = cuda_function(__file__, "sum_parts_bias_activation", **LARGE._asdict())


def supports(x, *_, keep_input, groups=1, **__):
    """Float32, one group; one result."""
    return x.dtype == FLOAT32 and not keep_input and groups == 1


def supports_dropped(x, weight, *_, **__):
    """Float32; quads of filters."""
    return x.dtype == FLOAT32 and weight.shape[-1] % 4 == 0


def parts_of(x, weight, *_, strides, padding, dilation, **__):
    """The parts of y, if its sums are cut."""
    return workspace(x, weight, strides=strides, padding=padding, dilation=dilation)


@kernel(conv2d_bias_activation, "implicit_gemm", "cuda", supports=supports, workspace=parts_of)
def launch(y, x, weight, b, parts=None, *, function, alpha, keep_input=False, drop=None, **window):
    """y = f(patches of x · weight + b)."""
    end = End(b, function, alpha, drop)
    forward(conv2d_bias_activation_implicit_gemm, sum_parts_bias_activation, y, parts, x, weight, end, **window)


@kernel(conv2d_bias_activation_dropout, "implicit_gemm", "cuda", supports=supports_dropped, workspace=parts_of)
def launch_dropped(y, x, weight, b, step, parts=None, *, rate, seed, stream, counter=0, **params):
    """The same, dropped."""
    launch(y, x, weight, b, parts, drop=Drop(step, rate, seed, stream, counter), **params)
