"""Moving averages, one thread per value: 12 bytes and 3 operations each, for as many values as
there are channels."""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import moving_average

THREADS = 128

moving_average_elementwise = cuda_function(__file__, "moving_average_elementwise", THREADS=THREADS)


@kernel(moving_average, "elementwise", "cuda")
def launch(moving, batch, *, momentum):
    count = moving.size
    moving_average_elementwise[blocks_1d(count, THREADS), THREADS](moving, batch, count, momentum, 1 - momentum)
