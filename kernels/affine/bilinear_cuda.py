"""Images through affine maps: one thread for an output pixel, four reads for each of its values."""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d
from gpucnn.dispatch.op import kernel
from gpucnn.ops.affine import FILLS, PIXEL, affine

THREADS = 256

FUNCTIONS = {
    fill: cuda_function(__file__, "affine_bilinear", PIXEL=PIXEL, FILL=number) for number, fill in enumerate(FILLS)
}


@kernel(affine, "bilinear", "cuda")
def launch(y, x, maps, *, size, fill, value):
    pixels = x.shape[0] * size[0] * size[1]
    FUNCTIONS[fill][blocks_1d(pixels, THREADS), THREADS](y, x, maps, pixels, *x.shape[1:], *size, value)
