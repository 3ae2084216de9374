"""The last dense layer with softmax, crossentropy, and the gradient of the reduced loss: one launch,
a block for each row, in which each thread has a sum for every class.

Apart, these are a product that fills few multiprocessors, the bias, the loss, and the factors of its
gradient: four launches, each longer than its work.
"""

from __future__ import annotations

import numpy as np

from gpucnn.devices.cuda import cuda_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dense import dense_softmax_cross_entropy

THREADS = 128
MOST_CLASSES = 32

rows = cuda_function(__file__, "dense_softmax_cross_entropy_rows", THREADS=THREADS, K=10)


def supports(x, weight, b, labels, factors):
    """A lane for each class; labels of 32 bits."""
    return weight.shape[1] <= MOST_CLASSES and labels.dtype == np.int32


@kernel(dense_softmax_cross_entropy, "rows", "cuda", supports=supports)
def launch(logits, losses, dlogits, x, weight, b, labels, factors):
    """A block for each row."""
    N, C = x.shape
    rows.define(K=weight.shape[1])[N, THREADS](logits, losses, dlogits, x, weight, b, labels, factors, C)
