"""An update in one pass: one thread per element, each array read once and written once. The
formulas, to be read.

What an update costs is its bytes: Adam reads 4 arrays and writes 3, so 28 bytes for some 15 FLOPs
an element. One kernel for the whole formula moves each of them once; a kernel for each operation
would move them a dozen times.
"""

import math

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops import update
from gpucnn.ops.update import DECAY, MOMENTUM, RATE, TAKE

THREADS = 256


def _blocks(array):
    return blocks_1d(array.size, THREADS)


@numba_device
def larger(a, b):
    """The larger of two numbers; a NaN is larger than any."""
    return a if a > b or a != a else b


@numba_function
def sgd(values, gradients, row):
    i = cuda.grid(1)
    if i >= values.size:
        return
    values[i] -= row[RATE] * gradients[i]


@numba_function
def momentum_(values, gradients, m, row, momentum, nesterov):
    i = cuda.grid(1)
    if i >= values.size:
        return
    step = row[RATE] * gradients[i]
    velocity = momentum * m[i] - step
    m[i] = velocity
    if nesterov:
        values[i] += momentum * velocity - step
    else:
        values[i] += velocity


@kernel(update.momentum, "fused", "numba")
def launch_momentum(values, gradients, m, row, *, momentum, nesterov):
    momentum_[_blocks(values), THREADS](values, gradients, m, row, float(momentum), bool(nesterov))


@numba_function
def adam(values, gradients, m, v, v_max, row, amsgrad, take_1, take_2, epsilon):
    i = cuda.grid(1)
    if i >= values.size:
        return
    g = gradients[i]
    mean = m[i] + take_1 * (g - m[i])
    square = v[i] + take_2 * (g * g - v[i])
    m[i] = mean
    v[i] = square
    if amsgrad:
        square = larger(v_max[i], square)
        v_max[i] = square
    values[i] -= row[RATE] * mean / (math.sqrt(square) + epsilon)


@kernel(update.adam, "fused", "numba")
def launch_adam(values, gradients, m, v, v_max, row, *, beta_1, beta_2, epsilon):
    amsgrad = v_max is not None
    numbers = float(1 - beta_1), float(1 - beta_2), float(epsilon)
    adam[_blocks(values), THREADS](values, gradients, m, v, v_max if amsgrad else v, row, amsgrad, *numbers)


@numba_function
def nadam(values, gradients, m, v, row, take_1, take_2, epsilon):
    i = cuda.grid(1)
    if i >= values.size:
        return
    of_m = row[RATE]
    of_gradients = row[RATE + 1]
    correction = row[RATE + 2]
    g = gradients[i]
    mean = m[i] + take_1 * (g - m[i])
    square = v[i] + take_2 * (g * g - v[i])
    m[i] = mean
    v[i] = square
    values[i] -= (of_m * mean + of_gradients * g) / (math.sqrt(correction * square) + epsilon)


@kernel(update.nadam, "fused", "numba")
def launch_nadam(values, gradients, m, v, row, *, beta_1, beta_2, epsilon):
    numbers = float(1 - beta_1), float(1 - beta_2), float(epsilon)
    nadam[_blocks(values), THREADS](values, gradients, m, v, row, *numbers)


@numba_function
def rmsprop(values, gradients, v, mean, m, row, centered, moving, rho, take, momentum, epsilon):
    i = cuda.grid(1)
    if i >= values.size:
        return
    g = gradients[i]
    square = rho * v[i] + take * (g * g)
    v[i] = square
    spread = square + epsilon
    if centered:
        average = rho * mean[i] + take * g
        mean[i] = average
        spread -= average * average
    change = row[RATE] * g / math.sqrt(spread)
    if moving:
        change += momentum * m[i]
        m[i] = change
    values[i] -= change


@kernel(update.rmsprop, "fused", "numba")
def launch_rmsprop(values, gradients, v, mean, m, row, *, rho, momentum, epsilon):
    present = mean is not None, m is not None
    numbers = float(rho), float(1 - rho), float(momentum), float(epsilon)
    mean, m = (array if there else v for array, there in zip((mean, m), present, strict=True))
    rmsprop[_blocks(values), THREADS](values, gradients, v, mean, m, row, *present, *numbers)


@numba_function
def adagrad(values, gradients, v, row, epsilon):
    i = cuda.grid(1)
    if i >= values.size:
        return
    g = gradients[i]
    total = v[i] + g * g
    v[i] = total
    values[i] -= row[RATE] * g / math.sqrt(total + epsilon)


@numba_function
def adadelta(values, gradients, v, delta, row, rho, take, epsilon):
    i = cuda.grid(1)
    if i >= values.size:
        return
    g = gradients[i]
    square = rho * v[i] + take * (g * g)
    v[i] = square
    change = math.sqrt(delta[i] + epsilon) * g / math.sqrt(square + epsilon)
    delta[i] = rho * delta[i] + take * (change * change)
    values[i] -= row[RATE] * change


@kernel(update.adadelta, "fused", "numba")
def launch_adadelta(values, gradients, v, delta, row, *, rho, epsilon):
    numbers = float(rho), float(1 - rho), float(epsilon)
    adadelta[_blocks(values), THREADS](values, gradients, v, delta, row, *numbers)


@numba_function
def decay(values, row):
    i = cuda.grid(1)
    if i >= values.size:
        return
    values[i] -= row[DECAY] * values[i]


@numba_function
def average(averages, values, row):
    i = cuda.grid(1)
    if i >= averages.size:
        return
    averages[i] = row[MOMENTUM] * averages[i] + row[TAKE] * values[i]


@numba_function
def accumulate(total, gradients):
    i = cuda.grid(1)
    if i >= total.size:
        return
    total[i] += gradients[i]


@numba_function
def take_mean(gradients, total, count):
    i = cuda.grid(1)
    if i >= total.size:
        return
    gradients[i] = (gradients[i] + total[i]) / count
    total[i] = 0


@numba_function
def clip_by_value(gradients, limit):
    i = cuda.grid(1)
    if i >= gradients.size:
        return
    if gradients[i] > limit:
        gradients[i] = limit
    elif gradients[i] < -limit:
        gradients[i] = -limit


@numba_function
def clip_by_norm(gradients, parts, limit):
    """Divides by the scale first: the norm itself, scale · root, may be too large a number for
    float32. With an infinite scale, infinite gradients become the limit and all others 0."""
    i = cuda.grid(1)
    if i >= gradients.size:
        return
    scale = parts[0]
    root = math.sqrt(parts[1])
    if math.isinf(scale):
        gradients[i] = math.copysign(limit, gradients[i]) if math.isinf(gradients[i]) else 0.0
    elif not scale * root <= limit:
        gradients[i] = gradients[i] / scale * (limit / root)


@numba_function
def regularize(gradients, values, l1, twice_l2):
    i = cuda.grid(1)
    if i >= values.size:
        return
    change = twice_l2 * values[i]
    if values[i] > 0:
        change += l1
    elif values[i] < 0:
        change -= l1
    gradients[i] += change


@kernel(update.regularize, "fused", "numba")
def launch_regularize(gradients, values, *, l1, l2):
    regularize[_blocks(values), THREADS](gradients, values, float(l1), float(2 * l2))


@numba_function
def non_neg(values):
    i = cuda.grid(1)
    if i >= values.size:
        return
    if values[i] < 0:
        values[i] = 0


def register(op, function):
    """For a kernel that takes the operands of its op and at most one number, as they are."""

    @kernel(op, "fused", "numba")
    def launch(first, *others, **number):
        function[_blocks(first), THREADS](first, *others, *map(float, number.values()))


register(update.sgd, sgd)
register(update.adagrad, adagrad)
register(update.decay, decay)
register(update.average, average)
register(update.accumulate, accumulate)
register(update.take_mean, take_mean)
register(update.clip_by_value, clip_by_value)
register(update.clip_by_norm, clip_by_norm)
register(update.non_neg, non_neg)
