"""Tiled matmul: the threads of a block share what they read, through shared memory. The second rung
of the ladder.

`naive` reads two values from global memory for each FMA: 1/4 FLOP for each byte. Here a block reads
a tile of a and a tile of b once for 32 × 32 threads: 8 FLOPs for each byte of global memory, and
all its reads are coalesced, transposed or not. Now each FMA needs two reads of shared memory, which
is the next bottleneck: `warptiled` moves the reuse into registers.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.matmul import matmul

TILE = 32

matmul_tiled = cuda_function(__file__, "matmul_tiled", TILE=TILE)


@kernel(matmul, "tiled", "cuda")
def launch(y, a, b, *, transpose_a, transpose_b):
    """One block for each tile of y."""
    M, N = y.shape
    K = a.shape[0 if transpose_a else 1]
    tiles = ceil_div(M, TILE) * ceil_div(N, TILE)
    matmul_tiled[tiles, (TILE, TILE)](y, a, b, M, N, K, transpose_a, transpose_b)
