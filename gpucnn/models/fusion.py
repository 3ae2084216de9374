"""From layers to the nodes that run: which neighbours are computed together.

`REWRITES` is the table: a rewrite looks at the layers from some place on and returns a fused node,
or None; the table says with which backends it holds. A layer is fused only if no algorithm was
chosen for any of the plain ops that a fused one replaces.

`numpy` runs the bodies of the plain ops one by one, and so does `numba` with its kernels: its fused
kernels are the definitions, `direct`, and a tiled product with a kernel each for bias and ReLU is
faster than they are. `cuda` has fused kernels of all but the pooled ops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .. import regularizers
from ..devices import storage
from ..devices.scoped import Scoped
from ..dispatch import choice
from ..layers.conv import Conv2D
from ..layers.dense import Dense
from ..layers.layer import Backward, Layer
from ..layers.pooling import MaxPooling2D
from ..ops.conv2d import conv2d_grad_input, conv2d_grad_weight
from ..ops.fused import (
    bias_relu_grad,
    conv2d_bias_relu,
    conv2d_bias_relu_maxpool,
    conv2d_bias_relu_maxpool_grad_input,
    conv2d_bias_relu_maxpool_grad_weight,
    dense_bias_relu,
)
from ..ops.matmul import matmul

Forward = Callable[[Any, Any, bool], tuple[Any, Backward]]

_enabled = Scoped("fusion", True)


class Node:
    """One or more neighbouring layers with one forward and one backward pass."""

    def __init__(self, layers: Sequence[Layer], forward: Forward, fused: bool = False) -> None:
        self.layers = list(layers)
        self.fused = fused
        self._forward = forward
        self._regularizer = layers[-1].activity_regularizer
        self.samples: int | None = None

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward, float]:
        """(y, backward, penalty); the penalty is the activity regularizer's, per image."""
        y, backward = self._forward(x, step, training)
        regularizer = self._regularizer
        if regularizer is None:
            return y, backward, 0.0
        share = 1.0 / (self.samples or len(y))

        def regularized(dy: Any, need_dx: bool = True) -> Any:
            regularizers.add_gradient(regularizer, dy, y, share)
            return backward(dy, need_dx=need_dx)

        return y, regularized, float(storage.get(regularizers.penalty(regularizer, y, share))[0])


def program(layers: list[Layer], logits: bool) -> list[Node]:
    """The nodes of a model. With `logits`, the last layer stops before its activation."""
    nodes: list[Node] = []
    free = len(layers) - logits
    place = 0
    while place < free:
        node = _fused(layers[place:free]) or Node([layers[place]], layers[place].forward)
        nodes.append(node)
        place += len(node.layers)
    if logits:
        nodes.append(Node(layers[-1:], layers[-1].linear))  # type: ignore[attr-defined]
    return nodes


@contextmanager
def off() -> Iterator[None]:
    """Fuse nothing in the body of the with statement: programs planned there run layer by layer."""
    with _enabled.scope():
        _enabled.set(False)
        yield


def is_enabled() -> bool:
    """Whether programs planned now are fused."""
    return _enabled.get()


def _fused(layers: list[Layer]) -> Node | None:
    if not _enabled.get():
        return None
    backend = choice.backend()
    rewrites = (rewrite for rewrite, backends in REWRITES.items() if backend in backends)
    return next((node for rewrite in rewrites if (node := rewrite(layers)) is not None), None)


def _chosen(*ops: str) -> bool:
    """Whether an algorithm was chosen for one of these ops."""
    return not choice.algorithms().keys().isdisjoint(ops)


def _ends_in_relu(layer: Layer, op: str) -> bool:
    """Whether the layer is relu(op(x, kernel) + bias) and no algorithm of these was chosen."""
    if layer.algorithm is not None or _chosen(op, "bias", "bias_grad", "activation", "activation_grad"):
        return False
    plain = layer.activity_regularizer is None and layer.use_bias  # type: ignore[attr-defined]
    return plain and layer.activation.name == "relu"  # type: ignore[attr-defined]


def _is_conv_relu(layer: Layer) -> bool:
    return type(layer) is Conv2D and layer.groups == 1 and _ends_in_relu(layer, "conv2d")


_OPS_OF_POOLING = "maxpool2d", "maxpool2d_grad", "conv2d_grad_input", "conv2d_grad_weight"
"""What the ops of a pooled convolution replace, apart from what those of a convolution do."""


def _conv_relu_pool(layers: list[Layer]) -> Node | None:
    """Conv2D with ReLU, then the largest of each 2 × 2; the pooled values and places are kept."""
    if len(layers) < 2 or not _is_conv_relu(layers[0]):
        return None
    conv, pool = layers[:2]
    if type(pool) is not MaxPooling2D or (pool.pool_size, pool.strides, pool.padding) != ((2, 2), (2, 2), "valid"):
        return None
    if pool.algorithm is not None or _chosen(*_OPS_OF_POOLING):
        return None
    assert isinstance(conv, Conv2D)

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        weight, window = conv.kernel.value, conv.window(x.shape)
        y, index = conv2d_bias_relu_maxpool(x, weight, conv.bias.value, **window)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            gradients = conv.kernel.gradient, conv.bias.gradient
            conv2d_bias_relu_maxpool_grad_weight(dy, index, x, kernel_size=conv.kernel_size, **window, out=gradients)
            if not need_dx:
                return None
            return conv2d_bias_relu_maxpool_grad_input(dy, index, weight, size=x.shape[1:3], **window)

        return y, backward

    return Node([conv, pool], forward, fused=True)


def _conv_relu(layers: list[Layer]) -> Node | None:
    """Conv2D with ReLU: only the result is kept; its zeros show where the gradient is cut off."""
    conv = layers[0]
    if not _is_conv_relu(conv):
        return None
    assert isinstance(conv, Conv2D)

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        weight, window = conv.kernel.value, conv.window(x.shape)
        y = conv2d_bias_relu(x, weight, conv.bias.value, **window)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dz, _ = bias_relu_grad(dy, y, out=(None, conv.bias.gradient))
            conv2d_grad_weight(dz, x, kernel_size=conv.kernel_size, groups=1, **window, out=conv.kernel.gradient)
            return conv2d_grad_input(dz, weight, size=x.shape[1:3], groups=1, **window) if need_dx else None

        return y, backward

    return Node([conv], forward, fused=True)


def _dense_relu(layers: list[Layer]) -> Node | None:
    """Dense with ReLU on one row per image."""
    dense = layers[0]
    if type(dense) is not Dense or not _ends_in_relu(dense, "matmul") or len(dense.input_shape or ()) != 2:
        return None
    assert isinstance(dense, Dense)

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        weight = dense.kernel.value
        y = dense_bias_relu(x, weight, dense.bias.value)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dz, _ = bias_relu_grad(dy, y, out=(None, dense.bias.gradient))
            matmul(x, dz, transpose_a=True, transpose_b=False, out=dense.kernel.gradient)
            return matmul(dz, weight, transpose_a=False, transpose_b=True) if need_dx else None

        return y, backward

    return Node([dense], forward, fused=True)


REWRITES = {
    _conv_relu_pool: ("njit",),
    _conv_relu: ("njit", "cuda"),
    _dense_relu: ("njit", "cuda"),
}
"""The backends with which each holds; tried in this order."""
