"""Two public ladders of SGEMM with their published speeds, and the rungs as launches of `ladder.cu`.

A6000   siboehm/SGEMM_CUDA, README, GFLOP/s at 4092 × 4092 (4096 here)
2080 S  yzhaiustc/Optimizing-SGEMM-on-NVIDIA-Turing-GPUs, data/res_N.txt, GFLOP/s at 4608 × 4608, from
        v7 on: in the rungs before it lanes meet in banks, in a way that `ladder.cu` does not repeat

The kernels are this project's, in the published tilings; what is compared is the tiling's speed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpucnn.devices import choose
from gpucnn.devices.cards import find
from gpucnn.devices.cuda import cuda_function
from gpucnn.ops.matmul import matmul
from gpucnn.profiling import prediction
from gpucnn.profiling.instruction_mix import Access
from gpucnn.profiling.launches import LaunchRecorder


@dataclass(frozen=True)
class Rung:
    """`quads` and `scattered` as in `Access`, counted by hand: of a load of 128 bits, each half of a warp
    takes one pass for every 32 banks that its lanes read, and more where they meet in a bank."""

    name: str
    published: float
    kernel: str = "tiled"
    tile: tuple[int, int, int, int, int] = (32, 32, 32, 1, 1)  # BM BN BK TM TN
    columns: int = 0
    wide: int = 0
    warps: int = 0
    buffers: int = 1
    scattered: float = 1.0
    quads: float = 2.0


LADDERS = {
    "a6000": (
        4096,
        (
            # half of the loads meet 32 rows, the others one value: (32 + 1) / 2 passes each
            Rung("naive", 309, "naive", scattered=16.5),
            Rung("coalesced", 1986, "coalesced"),
            Rung("shared memory", 2980),
            Rung("1D tiles", 8475, tile=(64, 64, 8, 8, 1)),
            # b: 16 quads, every other one, so twice 4 passes; a: 2
            Rung("2D tiles", 15972, tile=(128, 128, 8, 8, 8), quads=5),
            Rung("vectorised", 18237, tile=(128, 128, 8, 8, 8), columns=1, wide=1, quads=5),
            # b: 8 quads, every other one, so twice 2 passes; a: 2
            Rung("warp tiles", 21779, tile=(64, 128, 8, 8, 8), columns=1, wide=1, warps=1, quads=3),
        ),
    ),
    "rtx2080super": (
        4608,
        (
            # b: 16 quads, so twice 2 passes; a: 2
            Rung("v7: 64 × 64, 4 × 4", 5619, tile=(64, 64, 16, 4, 4), columns=1, wide=1, quads=3),
            Rung("v8: 128 × 128, 8 × 8", 7472, tile=(128, 128, 8, 8, 8), columns=1, wide=1, quads=5),
            Rung("v9: warp tiles", 9091, tile=(128, 128, 8, 8, 8), columns=1, wide=1, warps=1, quads=3),
            Rung("v11: two buffers", 10054, tile=(128, 128, 8, 8, 8), columns=1, wide=1, warps=1, buffers=2, quads=3),
        ),
    ),
}


def launch(rung, n):
    """The launch of a rung, recorded."""
    BM, BN, _, TM, TN = rung.tile
    threads = BM * BN // (TM * TN)
    macros = dict(zip(("BM", "BN", "BK", "TM", "TN"), rung.tile, strict=True), THREADS=threads)
    macros |= {"A_BY_COLUMNS": rung.columns, "QUADS": rung.wide, "BY_WARPS": rung.warps, "BUFFERS": rung.buffers}
    grid = (n // BN, n // BM)
    block = (32, 32) if rung.kernel == "naive" else threads
    recorder = LaunchRecorder()
    with choose.using(recorder):
        function = cuda_function(Path(__file__).with_name("ladder.cu"), rung.kernel, **macros)
        arrays = [recorder.empty((n, n), np.float32) for _ in range(3)]
        kernel = matmul.kernels(("cuda",))["tiled_cuda"]
        recorder.begin(kernel, tuple(arrays[1:]), {"transpose_a": False, "transpose_b": False})  # whose work it does
        function[grid, block](*arrays, n)
    return recorder.nodes


def predicted(name):
    """(rung, predicted node, GFLOP/s) of each rung on the ladder's card."""
    n, rungs = LADDERS[name]
    for rung in rungs:
        access = Access(rung.scattered, rung.quads)
        (node,) = prediction.of_step(launch(rung, n), find(name), access)
        yield rung, node, 2 * n**3 / node.microseconds * 1e-3
