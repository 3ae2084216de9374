"""Moving averages, one thread per value: 12 bytes and 3 operations each, for as many values as there are channels."""

from gpucnn.launch import blocks_1d
from gpucnn.nvrtc import cuda_function
from gpucnn.ops.batchnorm import moving_average
from gpucnn.registry import kernel

THREADS = 128

moving_average_elementwise = cuda_function(__file__, "moving_average_elementwise", THREADS=THREADS)


@kernel(moving_average, "elementwise", "cuda")
def launch(moving, batch, *, momentum):
    count = moving.size
    moving_average_elementwise[blocks_1d(count, THREADS), THREADS](moving, batch, count, momentum, 1 - momentum)
