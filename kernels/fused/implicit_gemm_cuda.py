"""Implicit GEMM with bias and activation at its end: the sums are finished in registers, before they are
written.

The convolution is that of `conv2d/implicit_gemm`. Apart, bias and activation each read and write the
result again, 16 bytes for each value, and are launches of their own. Where the sums are cut into
parts, the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation

from ..shared.gemm_launch import FLOAT32, LARGE, End
from ..shared.implicit_gemm_launch import forward, workspace

conv2d_bias_activation_implicit_gemm = cuda_function(
    __file__, "conv2d_bias_activation_implicit_gemm", **LARGE._asdict()
)
sum_parts_bias_activation = cuda_function(__file__, "sum_parts_bias_activation", **LARGE._asdict())


def supports(x, *_, keep_input, **__):
    """Float32; one result."""
    return x.dtype == FLOAT32 and not keep_input


def parts_of(x, weight, b, *, function, alpha, keep_input, **window):
    """The parts of y, if its sums are cut."""
    return workspace(x, weight, **window)


@kernel(conv2d_bias_activation, "implicit_gemm", "cuda", supports=supports, workspace=parts_of)
def launch(y, x, weight, b, parts=None, *, function, alpha, keep_input, **window):
    """y = f(patches of x · weight + b)."""
    end = End(b, function, alpha)
    forward(conv2d_bias_activation_implicit_gemm, sum_parts_bias_activation, y, parts, x, weight, end, **window)
