"""Random words and uniforms by Philox: one thread for the four words of a counter, written as one
vector.

Nothing is kept between threads or launches, so every device and every grid gives the same bits.
About 60 integer operations and 16 bytes written for each thread: bound by memory.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops.sampling import random_bits, random_uniform

THREADS = 256


def register(op):
    function = cuda_function(__file__, op.name)

    @kernel(op, "philox", "cuda")
    def launch(y, step, *, count, seed, stream, purpose):
        function[blocks_1d(ceil_div(count, 4), THREADS), THREADS](y, step, count, seed, stream & 0xFFFFFFFF, purpose)


register(random_bits)
register(random_uniform)
