"""A convolution and a dense layer on tensor cores with bias, activation and dropout at their end: the sums
are finished in registers, before they are written.

The products are those of `conv2d/tensor` and `matmul/tensor`. Apart, bias, activation and dropout
each read and write the result again, 8 bytes for each value, and are launches of their own. Where the sums are
cut into parts, the kernel that adds them up finishes them.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.ops.fused import (
    conv2d_bias_activation,
    conv2d_bias_activation_dropout,
    matmul_bias_activation,
    matmul_bias_activation_dropout,
)

from ..shared import tensor_convolution_launch as convolution
from ..shared.gemm_launch import FLOAT32, Drop, End
from ..shared.tensor_launch import DEFAULT, has_tensor_cores, multiply, tensor_plan, worthwhile

conv2d_bias_activation_tensor = cuda_function(__file__, "conv2d_bias_activation_tensor", **DEFAULT)
matmul_bias_activation_tensor = cuda_function(__file__, "matmul_bias_activation_tensor", **DEFAULT)
sum_parts_bias_activation = cuda_function(__file__, "sum_parts_bias_activation", **DEFAULT)


def window_of(strides, padding, dilation, **_):
    """The window among the parameters."""
    return {"strides": strides, "padding": padding, "dilation": dilation}


def supports(x, weight, *_, keep_input=False, groups=1, **params):
    """What the convolution's kernel supports, in one group; one result."""
    return not keep_input and groups == 1 and convolution.supports(x, weight, **window_of(**params))


def pays(x, weight, *_, **params):
    """Large products."""
    return convolution.pays(x, weight, **window_of(**params))


def workspace(x, weight, *_, **params):
    """The parts of y, if its sums are cut."""
    return convolution.workspace(x, weight, **window_of(**params))


@kernel(
    conv2d_bias_activation,
    "tensor",
    "cuda",
    supports=supports,
    pays=pays,
    workspace=workspace,
    precisions=PRECISIONS,
)
def launch(y, x, weight, b, parts=None, *, function, alpha, keep_input=False, drop=None, **window):
    """y = f(patches of x · weight + b)."""
    end = End(b, function, alpha, drop)
    convolution.forward(conv2d_bias_activation_tensor, sum_parts_bias_activation, y, parts, x, weight, end, **window)


@kernel(
    conv2d_bias_activation_dropout,
    "tensor",
    "cuda",
    supports=supports,
    pays=pays,
    workspace=workspace,
    precisions=PRECISIONS,
)
def launch_dropped(y, x, weight, b, step, parts=None, *, rate, seed, stream, counter=0, **params):
    """The same, dropped."""
    launch(y, x, weight, b, parts, drop=Drop(step, rate, seed, stream, counter), **params)


def extents(x, weight):
    """(M, N, K) of a dense layer."""
    return x.shape[0], weight.shape[1], x.shape[1]


def supports_dense(x, weight, *_, keep_input=False, **__):
    """Float32, quads of inputs and of units, on a device with tensor cores; one result."""
    _, N, K = extents(x, weight)
    return not keep_input and x.dtype == FLOAT32 and N % 4 == K % 4 == 0 and has_tensor_cores()


def pays_dense(x, weight, *_, **__):
    """Large products."""
    return worthwhile(*extents(x, weight))


def workspace_dense(x, weight, *_, **__):
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
def launch_dense(y, x, weight, b, parts=None, *, function, alpha, keep_input=False, drop=None):
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
        end=End(b, function, alpha, drop),
    )


@kernel(
    matmul_bias_activation_dropout,
    "tensor",
    "cuda",
    supports=supports_dense,
    pays=pays_dense,
    workspace=workspace_dense,
    precisions=PRECISIONS,
)
def launch_dense_dropped(y, x, weight, b, step, parts=None, *, rate, seed, stream, counter=0, **params):
    """The same, dropped."""
    launch_dense(y, x, weight, b, parts, drop=Drop(step, rate, seed, stream, counter), **params)
