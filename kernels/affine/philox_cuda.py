"""Random affine maps by Philox: one thread for an image, integers alone."""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d
from gpucnn.dispatch.op import kernel
from gpucnn.ops.affine import PIXEL, SINE
from gpucnn.ops.affine import random_affine as op

from ..shared.affine_launch import numbers

THREADS = 64

random_affine = cuda_function(
    __file__, "random_affine", PIXEL=PIXEL, **{f"SINE_{i}": value for i, value in enumerate(SINE)}
)


@kernel(op, "philox", "cuda")
def launch(maps, step, *, count, seed, stream, **how):
    random_affine[blocks_1d(count, THREADS), THREADS](maps, step, count, *numbers(**how), seed, stream & 0xFFFFFFFF)
