"""An update in one pass: one thread for 4 neighbouring elements, 16 bytes of each array at a time.

What an update costs is its bytes: Adam reads 4 arrays and writes 3, so 28 bytes for some 15 FLOPs
an element, far below what a GPU could compute in that time. Compared with the numba rung, this one
moves 16 bytes with each instruction.
"""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops import update
from gpucnn.ops.update import DECAY, MOMENTUM, RATE, TAKE

THREADS = 256


def _function(name):
    return cuda_function(__file__, name, THREADS=THREADS, DECAY=DECAY, MOMENTUM=MOMENTUM, TAKE=TAKE, RATE=RATE)


def _blocks(array):
    return blocks_1d(ceil_div(array.size, 4), THREADS)


momentum_ = _function("momentum")
adam = _function("adam")
nadam = _function("nadam")
rmsprop = _function("rmsprop")
adadelta = _function("adadelta")
regularize = _function("regularize")


@kernel(update.momentum, "fused", "cuda")
def launch_momentum(values, gradients, m, row, *, momentum, nesterov):
    momentum_[_blocks(values), THREADS](values, gradients, m, row, values.size, momentum, nesterov)


@kernel(update.adam, "fused", "cuda")
def launch_adam(values, gradients, m, v, v_max, row, *, beta_1, beta_2, epsilon):
    numbers = 1 - beta_1, 1 - beta_2, epsilon
    adam[_blocks(values), THREADS](values, gradients, m, v, v_max, row, values.size, *numbers)


@kernel(update.nadam, "fused", "cuda")
def launch_nadam(values, gradients, m, v, row, *, beta_1, beta_2, epsilon):
    nadam[_blocks(values), THREADS](values, gradients, m, v, row, values.size, 1 - beta_1, 1 - beta_2, epsilon)


@kernel(update.rmsprop, "fused", "cuda")
def launch_rmsprop(values, gradients, v, mean, m, row, *, rho, momentum, epsilon):
    numbers = rho, 1 - rho, momentum, epsilon
    rmsprop[_blocks(values), THREADS](values, gradients, v, mean, m, row, values.size, *numbers)


@kernel(update.adadelta, "fused", "cuda")
def launch_adadelta(values, gradients, v, delta, row, *, rho, epsilon):
    adadelta[_blocks(values), THREADS](values, gradients, v, delta, row, values.size, rho, 1 - rho, epsilon)


@kernel(update.regularize, "fused", "cuda")
def launch_regularize(gradients, values, *, l1, l2):
    regularize[_blocks(values), THREADS](gradients, values, values.size, l1, 2 * l2)


def register(op):
    """For a kernel that takes the operands of its op, their size and at most one number, as they
    are."""
    function = _function(op.name)

    @kernel(op, "fused", "cuda")
    def launch(first, *others, **number):
        function[_blocks(first), THREADS](first, *others, first.size, *number.values())


for op in (
    update.sgd,
    update.adagrad,
    update.decay,
    update.average,
    update.accumulate,
    update.take_mean,
    update.clip_by_value,
    update.clip_by_norm,
    update.non_neg,
):
    register(op)
