"""The gradient of pooling by 2 × 2 written out, and the gradient of the bias below it, in one pass.

Products on tensor cores copy their operands to shared memory without a look at them, so they cannot
pick the values of dy by the cells that `index` names, as the gradients of `fused/pooled_gemm` do. Apart,
the gradient of the pooling and that of bias and activation write the results before pooling twice and
read them three times.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import conv2d_maxpool_grad_sums

from ..shared.column_sums_launch import DEFINES, THREADS, sums_of_slices, tiles
from ..shared.gemm_launch import FLOAT32

into_cells = cuda_function(__file__, "conv2d_maxpool_grad_sums", **DEFINES | {"RESIDENT_BLOCKS": 1})


def supports(dy, index, **_):
    """Float32, quads of filters, as tensor cores need them."""
    return dy.dtype == FLOAT32 and dy.shape[-1] % 4 == 0


def workspace(dy, index, *, size):
    """The sums of the slices, if there are several."""
    return sums_of_slices(dy)


@kernel(conv2d_maxpool_grad_sums, "rows", "cuda", supports=supports, workspace=workspace)
def launch(dz, db, dy, index, sums=None, *, size):
    K, slices = db.size, 1 if sums is None else sums.shape[0]
    rows = dy.size // K
    into_cells[slices * tiles(K), THREADS, 16 * THREADS](
        db, sums, dz, dy, index, rows, K, ceil_div(rows, slices), *size
    )
