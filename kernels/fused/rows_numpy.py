"""The gradients of pooling by 2 × 2 and of the bias below it, by the definition: "auto" takes kernels
that need neither on the CPU."""

from __future__ import annotations

from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_maxpool_grad_sums


@kernel(conv2d_maxpool_grad_sums, "rows", "numpy")
def launch(dz, db, dy, index, *, size):
    """The definition."""
    dz[...], db[...] = conv2d_maxpool_grad_sums.reference(dy, index, size=size)
