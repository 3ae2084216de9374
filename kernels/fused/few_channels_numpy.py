"""The gradients of weight and bias of a convolution with bias and activation, by the definition: on the CPU
"auto" takes the gradient of bias and activation, and then that of the convolution."""

from __future__ import annotations

from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_bias_activation_grad_weight


def pays(*_, **__):
    """Never."""
    return False


@kernel(conv2d_bias_activation_grad_weight, "few_channels", "numpy", pays=pays)
def launch(dweight, db, dy, y, x, **params):
    """The definition."""
    dweight[...], db[...] = conv2d_bias_activation_grad_weight.reference(dy, y, x, **params)
