"""A convolution and a dense layer on tensor cores with bias and ReLU at their end: the sums are
finished in registers, before they are written.

The products are those of `conv2d/tensor` and `matmul/tensor`. Apart, bias and ReLU each read and
write the result again, 16 bytes for each value, and are launches of their own. Where the sums are
cut into parts, the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_relu, dense_bias_relu

from ..shared import tensor_convolution_launch as convolution
from ..shared.gemm_launch import FLOAT32
from ..shared.tensor_launch import WIDE, has_tensor_cores, multiply, tensor_plan, worthwhile

conv2d_bias_relu_tensor = cuda_function(__file__, "conv2d_bias_relu_tensor", **WIDE._asdict())
dense_bias_relu_tensor = cuda_function(__file__, "dense_bias_relu_tensor", **WIDE._asdict())
sum_parts_bias_relu = cuda_function(__file__, "sum_parts_bias_relu", **WIDE._asdict())


@kernel(
    conv2d_bias_relu,
    "tensor",
    "cuda",
    supports=convolution.supports,
    pays=convolution.pays,
    workspace=convolution.workspace,
)
def launch(y, x, weight, b, parts=None, **window):
    """y = max(patches of x · weight + b, 0)."""
    convolution.forward(conv2d_bias_relu_tensor, sum_parts_bias_relu, y, parts, x, weight, b, **window)


def extents(x, weight):
    """(M, N, K) of a dense layer."""
    return x.shape[0], weight.shape[1], x.shape[1]


def supports_dense(x, weight, b):
    """Float32, quads of inputs and of units, on a device with tensor cores."""
    _, N, K = extents(x, weight)
    return x.dtype == FLOAT32 and N % 4 == K % 4 == 0 and has_tensor_cores()


def pays_dense(x, weight, b):
    """Large products."""
    return worthwhile(*extents(x, weight))


def workspace_dense(x, weight, b):
    """The parts of y, if there are several."""
    M, N, K = extents(x, weight)
    return tensor_plan(M, N, K).workspace(M * N)


@kernel(dense_bias_relu, "tensor", "cuda", supports=supports_dense, pays=pays_dense, workspace=workspace_dense)
def launch_dense(y, x, weight, b, parts=None):
    """y = max(x · weight + b, 0)."""
    M, N, K = extents(x, weight)
    plan = tensor_plan(M, N, K)
    multiply(dense_bias_relu_tensor, sum_parts_bias_relu, plan, y, parts, x, weight, M, N, K, bias=(b,))
