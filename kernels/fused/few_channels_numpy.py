"""By the definition, what the CPU computes in parts that "auto" takes: the gradients of weight and bias of a
convolution with bias and activation, and products that end in dropout."""

from __future__ import annotations

from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import (
    conv2d_bias_activation_dropout,
    conv2d_bias_activation_grad_weight,
    matmul_bias_activation_dropout,
)


def pays(*_, **__):
    """Never."""
    return False


@kernel(conv2d_bias_activation_grad_weight, "few_channels", "numpy", pays=pays)
def launch(dweight, db, dy, y, x, **params):
    """The definition."""
    dweight[...], db[...] = conv2d_bias_activation_grad_weight.reference(dy, y, x, **params)


@kernel(conv2d_bias_activation_dropout, "direct", "numpy", pays=pays)
def launch_dropped(y, *operands, **params):
    """The definition."""
    y[...] = conv2d_bias_activation_dropout.reference(*operands, **params)


@kernel(matmul_bias_activation_dropout, "direct", "numpy", pays=pays)
def launch_dense_dropped(y, *operands, **params):
    """The definition."""
    y[...] = matmul_bias_activation_dropout.reference(*operands, **params)
