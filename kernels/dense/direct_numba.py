"""The definitions of a dense layer's ops: one thread for each row of the loss, and for each value of a
gradient, nothing shared.

    logits[n, k] = Σ x[n, c] · weight[c, k] + b[k],  and of the row the loss and its gradient
    dweight[c, k] = Σ x[n, c] · dz[n, k],  db[k] = Σ dz[n, k],  dx[n, c] = Σ dz[n, k] · weight[c, k]

    where dz is dy, for relu only where y > 0

"auto" takes the separate ops instead, whose products are tiled.
"""

from __future__ import annotations

import math

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dense import dense_grad, dense_softmax_cross_entropy

THREADS = 128


@numba_function
def dense_softmax_cross_entropy_direct(logits, losses, dlogits, x, weight, b, labels, factors):
    """The thread owns row n."""
    n = cuda.grid(1)
    if n >= losses.size:
        return
    C, K = weight.shape
    largest = np.float32(0)
    for k in range(K):
        total = np.float32(0)
        for c in range(C):
            total += x[n, c] * weight[c, k]
        total += b[k]
        logits[n, k] = total
        if k == 0 or total > largest or total != total:
            largest = total
    total = np.float32(0)
    for k in range(K):
        total += math.exp(logits[n, k] - largest)
    label = labels[n]
    losses[n] = math.log(total) - (logits[n, label] - largest)
    for k in range(K):
        probability = math.exp(logits[n, k] - largest) / total
        dlogits[n, k] = (probability - (np.float32(1) if k == label else np.float32(0))) * factors[n]


@numba_function
def dense_grad_direct(dweight, db, dx, dy, y, x, weight, with_slope):
    """The thread owns a value of dweight, of db behind them, or of dx behind these."""
    at = cuda.grid(1)
    if at >= dweight.size + db.size + dx.size:
        return
    (N, C), K = x.shape, db.size
    total = np.float32(0)
    if at >= dweight.size + db.size:
        n, c = (at - dweight.size - db.size) // C, (at - dweight.size - db.size) % C
        for k in range(K):
            if not (with_slope and y[n, k] <= 0):
                total += dy[n, k] * weight[c, k]
        dx[n, c] = total
    else:
        c, k = at // K, at % K
        for n in range(N):
            if not (with_slope and y[n, k] <= 0):
                total += dy[n, k] if c >= C else x[n, c] * dy[n, k]
        if c >= C:
            db[k] = total
        else:
            dweight[c, k] = total


def supports(x, weight, b, labels, factors):
    """Labels of 32 bits."""
    return labels.dtype == np.int32


def pays(*_, **__):
    """Never."""
    return False


@kernel(dense_softmax_cross_entropy, "direct", "numba", supports=supports, pays=pays)
def launch(logits, losses, dlogits, *operands):
    """A thread for each row."""
    dense_softmax_cross_entropy_direct[blocks_1d(losses.size, THREADS), THREADS](logits, losses, dlogits, *operands)


@kernel(dense_grad, "direct", "numba", pays=pays)
def launch_grad(dweight, db, dx, dy, kept, x, weight, *, function):
    """A thread for each value of the three results."""
    dense_grad_direct[blocks_1d(dweight.size + db.size + dx.size, THREADS), THREADS](
        dweight, db, dx, dy, dy if kept is None else kept, x, weight, kept is not None
    )
