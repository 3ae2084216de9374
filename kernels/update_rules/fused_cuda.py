"""More updates in one pass: one thread for 4 neighbouring elements, 16 bytes of each array at a time."""

from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.launch import blocks_1d, ceil_div
from gpucnn.dispatch.op import kernel
from gpucnn.ops import update_rules
from gpucnn.ops.flat_updates import RATE

THREADS = 256


def register(op, numbers):
    """For a kernel that takes the operands of its op, their size, and numbers made of its parameters."""
    function = cuda_function(__file__, op.name, THREADS=THREADS, RATE=RATE)

    @kernel(op, "fused", "cuda")
    def launch(first, *others, **params):
        function[blocks_1d(ceil_div(first.size, 4), THREADS), THREADS](first, *others, first.size, *numbers(**params))


register(update_rules.adamax, lambda beta_1, beta_2, epsilon: (1 - beta_1, beta_2, epsilon))
register(update_rules.lion, lambda beta_1, beta_2: (beta_1, 1 - beta_1, beta_2, 1 - beta_2))
register(update_rules.ftrl, lambda power, l1, l2, shrinkage, beta: (power, l1, 2 * l2, 2 * shrinkage, beta))
register(update_rules.lamb, lambda beta_1, beta_2, epsilon: (1 - beta_1, 1 - beta_2, epsilon))
register(update_rules.trust_step, lambda: ())
register(update_rules.gather_momentum, lambda momentum, nesterov: (momentum, nesterov))
register(update_rules.to_unit, lambda epsilon: (epsilon,))
