"""Both ops of a dense layer by the definition: on the CPU they save nothing over their parts, which
"auto" takes."""

from __future__ import annotations

from gpucnn.dispatch.op import kernel
from gpucnn.ops.dense import dense_grad, dense_softmax_cross_entropy


def pays(*_, **__):
    """Never."""
    return False


@kernel(dense_softmax_cross_entropy, "blas", "numpy", pays=pays)
def launch(logits, losses, dlogits, *operands):
    """The definition."""
    logits[...], losses[...], dlogits[...] = dense_softmax_cross_entropy.reference(*operands)


@kernel(dense_grad, "blas", "numpy", pays=pays)
def launch_grad(dweight, db, dx, *operands, function):
    """The definition."""
    dweight[...], db[...], dx[...] = dense_grad.reference(*operands, function=function)
