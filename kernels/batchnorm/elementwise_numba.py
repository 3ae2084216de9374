"""Moving averages, one thread per value: 12 bytes and 3 operations each, for as many values as
there are channels."""

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batchnorm import moving_average

THREADS = 128


@numba_function
def moving_average_elementwise(moving, batch, momentum, rest):
    i = cuda.grid(1)
    if i >= moving.size:
        return
    moving[i] = moving[i] * momentum + batch[i] * rest


@kernel(moving_average, "elementwise", "numba")
def launch(moving, batch, *, momentum):
    moving_average_elementwise[blocks_1d(moving.size, THREADS), THREADS](
        moving.reshape(-1), batch.reshape(-1), momentum, 1 - momentum
    )
