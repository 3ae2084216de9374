"""Implicit GEMM with bias and ReLU at its end: the sums are finished in registers, before they are
written.

The convolution is that of `conv2d/implicit_gemm`. Apart, bias and ReLU each read and write the
result again, 16 bytes for each value, and are launches of their own. Where the sums are cut into
parts, the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_relu

from ..shared.gemm_launch import FLOAT32, LARGE
from ..shared.implicit_gemm_launch import forward, workspace

conv2d_bias_relu_implicit_gemm = cuda_function(__file__, "conv2d_bias_relu_implicit_gemm", **LARGE._asdict())
sum_parts_bias_relu = cuda_function(__file__, "sum_parts_bias_relu", **LARGE._asdict())


def supports(x, *_, **__):
    """Float32."""
    return x.dtype == FLOAT32


@kernel(conv2d_bias_relu, "implicit_gemm", "cuda", supports=supports, workspace=workspace)
def launch(y, x, weight, b, parts=None, **window):
    """y = max(patches of x · weight + b, 0)."""
    forward(conv2d_bias_relu_implicit_gemm, sum_parts_bias_relu, y, parts, x, weight, b, **window)
