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


sgd = _function("sgd")
momentum_ = _function("momentum")
adam = _function("adam")
nadam = _function("nadam")
rmsprop = _function("rmsprop")
adagrad = _function("adagrad")
adadelta = _function("adadelta")
decay = _function("decay")
average = _function("average")
accumulate = _function("accumulate")
take_mean = _function("take_mean")
clip_by_value = _function("clip_by_value")
clip_by_norm = _function("clip_by_norm")
regularize = _function("regularize")
non_neg = _function("non_neg")


@kernel(update.sgd, "fused", "cuda")
def launch_sgd(values, gradients, row):
    sgd[_blocks(values), THREADS](values, gradients, row, values.size)


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


@kernel(update.adagrad, "fused", "cuda")
def launch_adagrad(values, gradients, v, row, *, epsilon):
    adagrad[_blocks(values), THREADS](values, gradients, v, row, values.size, epsilon)


@kernel(update.adadelta, "fused", "cuda")
def launch_adadelta(values, gradients, v, delta, row, *, rho, epsilon):
    adadelta[_blocks(values), THREADS](values, gradients, v, delta, row, values.size, rho, 1 - rho, epsilon)


@kernel(update.decay, "fused", "cuda")
def launch_decay(values, row):
    decay[_blocks(values), THREADS](values, row, values.size)


@kernel(update.average, "fused", "cuda")
def launch_average(averages, values, row):
    average[_blocks(values), THREADS](averages, values, row, values.size)


@kernel(update.accumulate, "fused", "cuda")
def launch_accumulate(total, gradients):
    accumulate[_blocks(total), THREADS](total, gradients, total.size)


@kernel(update.take_mean, "fused", "cuda")
def launch_take_mean(gradients, total, *, count):
    take_mean[_blocks(total), THREADS](gradients, total, total.size, count)


@kernel(update.clip_by_value, "fused", "cuda")
def launch_clip_by_value(gradients, *, limit):
    clip_by_value[_blocks(gradients), THREADS](gradients, gradients.size, limit)


@kernel(update.clip_by_norm, "fused", "cuda")
def launch_clip_by_norm(gradients, parts, *, limit):
    clip_by_norm[_blocks(gradients), THREADS](gradients, parts, gradients.size, limit)


@kernel(update.regularize, "fused", "cuda")
def launch_regularize(gradients, values, *, l1, l2):
    regularize[_blocks(values), THREADS](gradients, values, values.size, l1, 2 * l2)


@kernel(update.non_neg, "fused", "cuda")
def launch_non_neg(values):
    non_neg[_blocks(values), THREADS](values, values.size)
