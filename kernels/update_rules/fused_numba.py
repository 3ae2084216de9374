"""More updates in one pass, one thread per element: every array is read once and written once.

Neighbouring threads take neighbouring elements, 4 bytes each: some ten operations for 4 · (arrays
read + arrays written) bytes, so memory sets the time.
"""

import math

import numpy as np

from gpucnn.devices.launch import blocks_1d
from gpucnn.devices.numba_cuda import cuda, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops import update_rules
from gpucnn.ops.flat_updates import RATE

THREADS = 256
ZERO, ONE = np.float32(0), np.float32(1)


@numba_function
def adamax(values, gradients, m, u, row, take_1, beta_2, epsilon):
    i = cuda.grid(1)
    if i >= values.size:
        return
    g = gradients[i]
    m[i] += take_1 * (g - m[i])
    faded, size = beta_2 * u[i], abs(g)
    u[i] = faded if faded > size or faded != faded else size  # a NaN stays one
    values[i] -= row[RATE] * m[i] / (u[i] + epsilon)


@numba_function
def lion(values, gradients, m, row, beta_1, take_1, beta_2, take_2):
    i = cuda.grid(1)
    if i >= values.size:
        return
    g = gradients[i]
    direction = beta_1 * m[i] + take_1 * g
    sign = ONE if direction > ZERO else -ONE if direction < ZERO else direction
    values[i] -= row[RATE] * sign
    m[i] = beta_2 * m[i] + take_2 * g


@numba_function
def ftrl(values, gradients, v, linear, row, power, l1, twice_l2, twice_shrinkage, beta):
    i = cuda.grid(1)
    if i >= values.size:
        return
    g, value, rate = gradients[i], values[i], row[RATE]
    before = math.pow(v[i], power)
    square = v[i] + g * g
    after = math.pow(square, power)
    line = linear[i] + (g + twice_shrinkage * value - (after - before) / rate * value)
    quadratic = after / rate + twice_l2 + beta / rate
    inside = l1 if line > l1 else -l1 if line < -l1 else line
    v[i], linear[i] = square, line
    values[i] = (inside - line) / quadratic if quadratic > ZERO else ZERO


@numba_function
def lamb(gradients, m, v, row, take_1, take_2, epsilon):
    i = cuda.grid(1)
    if i >= gradients.size:
        return
    g = gradients[i]
    m[i] += take_1 * (g - m[i])
    v[i] += take_2 * (g * g - v[i])
    gradients[i] = m[i] * row[RATE + 1] / (math.sqrt(v[i] * row[RATE + 2]) + epsilon)


@numba_device
def norm(parts):
    return parts[0] * math.sqrt(parts[1])


@numba_function
def trust_step(values, gradients, value_parts, parts, row):
    i = cuda.grid(1)
    if i >= values.size:
        return
    of_values, of_gradients = norm(value_parts), norm(parts)
    ratio = of_values / of_gradients if of_values > ZERO and of_gradients > ZERO else ONE
    values[i] -= row[RATE] * ratio * gradients[i]


@numba_function
def gather_momentum(gradients, m, momentum, nesterov):
    i = cuda.grid(1)
    if i >= gradients.size:
        return
    m[i] = momentum * m[i] + gradients[i]
    gradients[i] = gradients[i] + momentum * m[i] if nesterov else m[i]


@numba_function
def to_unit(gradients, parts, epsilon):
    i = cuda.grid(1)
    if i < gradients.size:
        gradients[i] /= norm(parts) + epsilon


def register(op, function, numbers):
    """For a kernel that takes the operands of its op, and numbers made of its parameters."""

    @kernel(op, "fused", "numba")
    def launch(first, *others, **params):
        function[blocks_1d(first.size, THREADS), THREADS](first, *others, *numbers(**params))


register(update_rules.adamax, adamax, lambda beta_1, beta_2, epsilon: (1 - beta_1, beta_2, epsilon))
register(update_rules.lion, lion, lambda beta_1, beta_2: (beta_1, 1 - beta_1, beta_2, 1 - beta_2))
register(update_rules.ftrl, ftrl, lambda power, l1, l2, shrinkage, beta: (power, l1, 2 * l2, 2 * shrinkage, beta))
register(update_rules.lamb, lamb, lambda beta_1, beta_2, epsilon: (1 - beta_1, 1 - beta_2, epsilon))
register(update_rules.trust_step, trust_step, lambda: ())
register(update_rules.gather_momentum, gather_momentum, lambda momentum, nesterov: (momentum, nesterov))
register(update_rules.to_unit, to_unit, lambda epsilon: (epsilon,))
