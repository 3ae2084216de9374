"""A convolution and a dense layer on tensor cores with bias and activation at their end: the sums are
finished in registers, before they are written.

The products are those of `conv2d/tensor` and `matmul/tensor`. Apart, bias and activation each read and
write the result again, 16 bytes for each value, and are launches of their own. Where the sums are
cut into parts, the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.fused import conv2d_bias_activation, matmul_bias_activation

from ..shared import tensor_convolution_launch as convolution
from ..shared.gemm_launch import FLOAT32, End
from ..shared.tensor_launch import DEFAULT, has_tensor_cores, multiply, tensor_plan, worthwhile

conv2d_bias_activation_tensor = cuda_function(__file__, "conv2d_bias_activation_tensor", **DEFAULT)
matmul_bias_activation_tensor = cuda_function(__file__, "matmul_bias_activation_tensor", **DEFAULT)
sum_parts_bias_activation = cuda_function(__file__, "sum_parts_bias_activation", **DEFAULT)


def supports(x, weight, b, *, function, alpha, keep_input, **window):
    """What the convolution's kernel supports; one result."""
    return not keep_input and convolution.supports(x, weight, **window)


def pays(x, weight, b, *, function, alpha, keep_input, **window):
    """Large products."""
    return convolution.pays(x, weight, **window)


def workspace(x, weight, b, *, function, alpha, keep_input, **window):
    """The parts of y, if its sums are cut."""
    return convolution.workspace(x, weight, **window)


@kernel(
    conv2d_bias_activation,
    "tensor",
    "cuda",
    supports=supports,
    pays=pays,
    workspace=workspace,
    precisions=PRECISIONS,
)
def launch(y, x, weight, b, parts=None, *, function, alpha, keep_input, **window):
    """y = f(patches of x · weight + b)."""
    end = End(b, function, alpha)
    convolution.forward(conv2d_bias_activation_tensor, sum_parts_bias_activation, y, parts, x, weight, end, **window)


def extents(x, weight):
    """(M, N, K) of a dense layer."""
    return x.shape[0], weight.shape[1], x.shape[1]


def supports_dense(x, weight, b, *, keep_input, **_):
    """Float32, quads of inputs and of units, on a device with tensor cores; one result."""
    _, N, K = extents(x, weight)
    return not keep_input and x.dtype == FLOAT32 and N % 4 == K % 4 == 0 and has_tensor_cores()


def pays_dense(x, weight, b, **_):
    """Large products."""
    return worthwhile(*extents(x, weight))


def workspace_dense(x, weight, b, **_):
    """The parts of y, if there are several."""
    M, N, K = extents(x, weight)
    return tensor_plan(M, N, K).workspace(M * N)


@kernel(
    matmul_bias_activation,
    "tensor",
    "cuda",
    supports=supports_dense,
    pays=pays_dense,
    workspace=workspace_dense,
    precisions=PRECISIONS,
)
def launch_dense(y, x, weight, b, parts=None, *, function, alpha, keep_input):
    """y = f(x · weight + b)."""
    M, N, K = extents(x, weight)
    plan = tensor_plan(M, N, K)
    multiply(
        matmul_bias_activation_tensor,
        sum_parts_bias_activation,
        plan,
        y,
        parts,
        x,
        weight,
        M,
        N,
        K,
        end=End(b, function, alpha),
    )
