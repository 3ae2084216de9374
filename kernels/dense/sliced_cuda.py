"""The gradients of a small dense layer in one launch: the products for weight and input side by side,
the slope of the activation where dy is loaded, and the sum for the bias on the way.

Each of the two products alone has too few tiles for a GPU, and bias and activation are one more pass
over dy: three launches that wait for each other, where nothing but dy is needed by all. In every tile
several warps share the sums (`gemm.cuh`, SLICES). A large layer has work enough for tensor cores.
"""

from __future__ import annotations

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.dense import dense_grad

from ..shared.gemm_launch import FLOAT32, SLICED
from ..shared.tensor_launch import has_tensor_cores, worthwhile

USUAL_BATCH = 128

MOST_WORK = 200e6
"""Multiply-adds beyond which two launches of larger tiles are faster."""

gradients = cuda_function(__file__, "dense_grad_sliced", **SLICED._asdict(), KEPT=0)


def supports(dy, *_, **__):
    """Float32."""
    return dy.dtype == FLOAT32


def pays(dy, kept, x, weight, **_):
    """Small layers. Which layers are fused does not depend on the size of a batch: a usual one
    decides."""
    C, K = weight.shape
    on_tensor_cores = has_tensor_cores() and C % 4 == K % 4 == 0 and worthwhile(USUAL_BATCH, K, C)
    return not on_tensor_cores and USUAL_BATCH * C * K < MOST_WORK


def tiles(N, C, K) -> tuple[int, int]:
    """Of dweight and of dx."""
    tile_m, tile_n = SLICED.TILE_M, SLICED.TILE_N
    return ceil_div(C, tile_m) * ceil_div(K, tile_n), ceil_div(N, tile_m) * ceil_div(C, tile_n)


def executed(dy, kept, x, weight, **_) -> tuple[float, float]:
    """FLOPs of both products, and of the longest block."""
    (N, C), K = x.shape, dy.shape[1]
    slabs = ceil_div(N, SLICED.TILE_K), ceil_div(K, SLICED.TILE_K)
    of_slab = 2 * SLICED.TILE_M * SLICED.TILE_N * SLICED.TILE_K
    total = sum(count * each for count, each in zip(tiles(N, C, K), slabs, strict=True))
    return float(of_slab * total), float(of_slab * max(slabs))


@kernel(dense_grad, "sliced", "cuda", supports=supports, pays=pays, executed=executed)
def launch(dweight, db, dx, dy, kept, x, weight, *, function):
    """Tiles of dweight, then those of dx."""
    (N, C), K = x.shape, dy.shape[1]
    of_weight, of_x = tiles(N, C, K)
    gradients.define(KEPT=int(kept is not None))[of_weight + of_x, SLICED.THREADS](
        dweight, db, dx, dy, kept, x, weight, N, C, K, of_weight
    )
