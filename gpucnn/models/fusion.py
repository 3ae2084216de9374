"""From layers to the nodes that run: which neighbours are computed together.

`REWRITES` is the table: a rewrite looks at the layers from some place on and returns a fused node,
or None. A layer is fused only if the fused ops, gradients included, have kernels for it with the
backends in use, and if no algorithm was chosen for any of the plain ops that they replace.
`GPUCNN_FUSION=0` fuses nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .. import activations
from ..devices import choose
from ..devices.branches import aside
from ..devices.cpu import CPU
from ..devices.scoped import Scoped
from ..dispatch.case import Spec
from ..dispatch.op import Op
from ..layers.conv import Conv1D, Conv2D, Conv3D
from ..layers.conv_transpose import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
from ..layers.convolution_base import Convolution
from ..layers.dense import Dense
from ..layers.depthwise_conv import DepthwiseConv1D, DepthwiseConv2D
from ..layers.dropout import Dropout
from ..layers.kernel_and_bias import KernelAndBias
from ..layers.layer import Backward, Layer
from ..layers.parallel import Parallel
from ..layers.separable_conv import SeparableConv1D, SeparableConv2D
from ..losses import Loss, SparseCategoricalCrossentropy
from ..ops import epilogue
from ..ops.bias_activation import bias_activation
from ..ops.conv3d import conv3d_bias_activation
from ..ops.dense import FUNCTIONS, dense_grad, dense_softmax_cross_entropy
from ..ops.dropout import dropout, scale
from ..ops.fused import (
    conv2d_bias_activation,
    conv2d_bias_activation_dropout,
    conv2d_bias_activation_grad_weight,
    matmul_bias_activation,
    matmul_bias_activation_dropout,
)
from ..ops.matmul import matmul
from .ends import CONVOLUTIONS, FLOAT32, End, chosen, end_of, image_of_one, images, of_one, operands_of
from .fused_batchnorm import batchnorm_and_activation
from .fused_pooling import conv_and_pool, conv_and_windows
from .node import Node

_enabled = Scoped("fusion", True)


class Paths(Node):
    """A layer that holds paths of layers, with the nodes of each path."""

    def __init__(self, layer: Parallel) -> None:
        super().__init__([layer], layer.forward)
        self._layer = layer
        self._programs = [program(path, False) for path in layer.paths]

    @property
    def samples(self) -> int | None:
        """As of any node; those inside have the same."""
        return self._samples

    @samples.setter
    def samples(self, value: int | None) -> None:
        self._samples = value
        for node in chain(*vars(self).get("_programs", [])):
            node.samples = value

    def outputs(self) -> list[Any]:
        """Those of the nodes inside, and the layer's."""
        return [shape for node in chain(*self._programs) for shape in node.outputs()] + super().outputs()

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward, float]:
        """(y, backward, penalties)."""
        y, backward, penalties = self._layer.through(self._programs, x, step, training)
        y, backward, own = self._penalised(y, backward)
        return y, backward, penalties + own


def program(layers: list[Layer], logits: bool) -> list[Node]:
    """The nodes of a model. With `logits`, the last layer stops before its activation."""
    nodes: list[Node] = []
    free, place = len(layers) - logits, 0
    while place < free:
        node = _fused(layers[place:])
        if node is not None and place + len(node.layers) > free:  # the activation of the last layer stays apart
            node = _fused(layers[place:free])
        node = node or _alone(layers[place])
        nodes.append(node)
        place += len(node.layers)
    if logits:
        nodes.append(_logits(layers[-1]))
    return nodes


def _logits(layer: Any) -> Node:
    """The last layer, up to its activation; on the CPU, the bias is added where the product is computed."""
    fused = _dense([layer], activations.get("linear")) if _is_on() and choose.current() is CPU else None
    return fused or Node([layer], layer.linear)


def _alone(layer: Layer) -> Node:
    return Paths(layer) if isinstance(layer, Parallel) else Node([layer], layer.forward)


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
    if not _is_on():
        return None
    return next((node for rewrite in REWRITES if (node := rewrite(layers)) is not None), None)


def _is_on() -> bool:
    return _enabled.get() and os.environ.get("GPUCNN_FUSION") != "0"


class _Dropping(NamedTuple):
    """The dropout behind a layer, which is computed with it. The backward pass takes neither a mask nor random words:
    where the result is 0, dropped or not, there is no gradient.

    op  what computes the layer and the dropout at once; None where a pass over the result drops in place
    """

    layer: Dropout
    op: Op | None

    def forward(self, operands: tuple[Any, ...], step: Any, params: dict[str, Any], plain: Callable[[], Any]) -> Any:
        """The result of both; `plain` computes that of the layer alone."""
        draws = self.layer.draws((len(operands[0]), *of_one(self.layer)[1:]))[1]
        if self.op is not None:
            return self.op(*operands, step, **params, **draws)
        y = plain()
        return dropout(y, step, **draws, out=y)

    @property
    def scaled(self) -> dict[str, Any]:
        """What the gradient of the activation takes."""
        return {"scale": scale(self.layer.rate)}


def _dropping(end: End, op: Op | None, **window: Any) -> _Dropping | None:
    """The dropout behind the end of a layer, if the op computes both, or on the CPU."""
    drop = end.behind[0] if end.behind else None
    if type(drop) is not Dropout or not 0 < drop.rate < 1 or chosen("dropout"):
        return None
    shape = of_one(drop)
    if not epilogue.is_flat_at_zero(end.params["function"]) or math.prod(shape) % 4:  # words come in fours
        return None
    operands = *operands_of(end.layer), Spec((1,), np.dtype(np.int64))  # type: ignore[arg-type]
    if op is not None and op.has_kernel(*operands, **end.params, **window, **drop.draws(shape)[1]):
        return _Dropping(drop, op)
    return _Dropping(drop, None) if choose.current() is CPU else None


def _conv(layers: list[Layer]) -> Node | None:
    """A convolution: only the result is kept, or what the activation is applied to."""
    conv = layers[0]
    if type(conv) not in CONVOLUTIONS:
        return None
    assert isinstance(conv, Convolution)
    if conv.algorithm is not None or chosen(conv.conv.name) or (end := end_of(layers)) is None:
        return None
    operands, ended = operands_of(conv), conv3d_bias_activation if conv.rank == 3 else conv2d_bias_activation
    window, several = conv.window(operands[0].shape), conv.op_groups > 1
    grouped: dict[str, Any] = {"groups": conv.op_groups} if several or conv.rank == 3 else {}
    params = {**end.params, "keep_input": end.keeps_input, **window, **grouped}
    if not ended.has_kernel(*operands, **params):
        return None
    together = not (several or end.keeps_input or conv.rank == 3) and _has_gradients_of_weights(conv, end)
    at_once = None if several or conv.rank != 2 else conv2d_bias_activation_dropout
    drop = _dropping(end, at_once, **window)

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        shape, x = x.shape, images(conv, x)
        weight, window = conv.op_weight, conv.window(x.shape)
        operands, params = (x, weight, conv.bias.value), {**end.params, **window}
        keep_input, scaled = training and end.keeps_input, drop.scaled if training and drop else {}
        plain = partial(ended, *operands, **params, **grouped, keep_input=keep_input)
        y = drop.forward(operands, step, params, plain) if training and drop else plain()
        y, kept = y if keep_input else (y, y)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dy, size, dweight = dy.reshape(y.shape), weight.shape[:-2], conv.kernel.gradient.reshape(weight.shape)
            if together and not need_dx:
                out = dweight, conv.bias.gradient
                conv2d_bias_activation_grad_weight(dy, y, x, **params, **scaled, kernel_size=size, out=out)
                return None
            dz = end.backward(dy, kept, **scaled)
            of_groups = {**window, "groups": conv.op_groups}
            with aside(need_dx):
                conv.conv_grad_weight(dz, x, kernel_size=size, **of_groups, out=dweight)
            if not need_dx:
                return None
            return conv.conv_grad_input(dz, weight, size=x.shape[1:-1], **of_groups).reshape(shape)

        return y.reshape(len(x), *conv.output_shape[1:]), backward  # type: ignore[index]

    return Node([*end.layers, drop.layer] if drop else end.layers, forward, fused=True, needs_input=end.keeps_input)


def _has_gradients_of_weights(conv: Convolution, end: End) -> bool:
    """Whether the gradients of kernel and bias are one launch where that of x is not needed."""
    if chosen("conv2d_grad_weight"):
        return False
    x, weight, _ = operands_of(conv)
    y, window = x.like(*image_of_one(conv, conv.output_shape)), conv.window(x.shape)
    size = weight.shape[:2]
    return conv2d_bias_activation_grad_weight.has_kernel(y, y, x, **end.params, kernel_size=size, **window)


def _dense(layers: list[Layer], activation: Any = None) -> Node | None:
    """Dense on one row per image, with an activation that is by default the layer's."""
    dense = layers[0]
    if type(dense) is not Dense or len(dense.input_shape or ()) != 2 or dense.algorithm is not None:
        return None
    if chosen("matmul") or (end := end_of(layers, activation)) is None:
        return None
    if not matmul_bias_activation.has_kernel(*operands_of(dense), **end.params, keep_input=end.keeps_input):
        return None

    together = _has_gradients(dense, end.params["function"])
    drop = None if together else _dropping(end, matmul_bias_activation_dropout)

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        weight, keep_input = dense.kernel.value, training and end.keeps_input
        operands, scaled = (x, weight, dense.bias.value), drop.scaled if training and drop else {}
        plain = partial(matmul_bias_activation, *operands, **end.params, keep_input=keep_input)
        y = drop.forward(operands, step, end.params, plain) if training and drop else plain()
        y, kept = y if keep_input else (y, y)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            if together:
                return _dense_gradients(dense, dy, y, x, end.params["function"])
            dz = end.backward(dy, kept, **scaled)
            with aside(need_dx):
                matmul(x, dz, transpose_a=True, transpose_b=False, out=dense.kernel.gradient)
            return matmul(dz, weight, transpose_a=False, transpose_b=True) if need_dx else None

        return y, backward

    return Node([*end.layers, drop.layer] if drop else end.layers, forward, fused=True, needs_input=end.keeps_input)


def _scores(layers: list[Layer]) -> Node | None:
    """Dense with an activation of all units together, such as softmax: the product ends with the bias, on the CPU."""
    dense = layers[0]
    if type(dense) is not Dense or choose.current() is not CPU or chosen("softmax", "softmax_grad"):
        return None
    if (sums := _dense(layers[:1], activations.get("linear"))) is None:
        return None

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        z, sums_backward = sums.unpenalised(x, step, training)
        y, backward_of_activation = dense.activation.forward(z)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return sums_backward(backward_of_activation(dy), need_dx=need_dx)

        return y, backward

    return Node([dense], forward, fused=True)


def _has_gradients(dense: Dense, function: str) -> bool:
    """Whether both products of the gradients, and the sum for the bias, are one launch."""
    if function not in FUNCTIONS:
        return False
    x, weight, b = operands_of(dense)
    y = x.like(1, *b.shape)
    return dense_grad.has_kernel(y, None if function == epilogue.LINEAR else y, x, weight, function=function)


def _dense_gradients(dense: Dense, dy: Any, y: Any, x: Any, function: str) -> Any:
    """dx; the gradients of kernel and bias are written."""
    kept = None if function == epilogue.LINEAR else y
    out = dense.kernel.gradient, dense.bias.gradient, None
    return dense_grad(dy, kept, x, dense.kernel.value, function=function, out=out)[2]


Head = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any, Backward]]


def head(layer: Layer, loss: Loss) -> Head | None:
    """The last layer and the loss of its logits in one op, if it has a kernel for them.

    The function takes x, the labels, the factor of each loss in the reduced one, and where the losses are
    written or None, and returns (logits, losses, gradient of the logits, backward).
    """
    if not _is_on() or type(loss) is not SparseCategoricalCrossentropy or not loss.from_logits:
        return None
    if type(layer) is not Dense or len(layer.input_shape or ()) != 2 or not layer.use_bias:
        return None
    dense: Dense = layer
    if dense.algorithm is not None or chosen("matmul", "bias", "bias_grad", *_OPS_OF_LOSS):
        return None
    x, weight, b = operands_of(dense)
    if not _has_gradients(dense, epilogue.LINEAR) or not dense_softmax_cross_entropy.has_kernel(
        x, weight, b, Spec((1,), np.dtype(np.int32)), x.like(1)
    ):
        return None

    def forward(x: Any, labels: Any, factors: Any, target: Any) -> tuple[Any, Any, Any, Backward]:
        operands = x, dense.kernel.value, dense.bias.value, labels, factors
        results = dense_softmax_cross_entropy(*operands, out=(None, target, None))
        return *results, lambda dy, need_dx=True: _dense_gradients(dense, dy, None, x, epilogue.LINEAR)

    return forward


_OPS_OF_LOSS = "sparse_softmax_cross_entropy", "scale_rows"


_BUILT_IN = (
    *(Conv1D, Conv2D, Conv3D, DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D),
    *(Conv1DTranspose, Conv2DTranspose, Conv3DTranspose, Dense),
)


def _sums(layers: list[Layer]) -> Node | None:
    """Any other layer with a kernel, a bias and an activation: both are applied in one pass."""
    layer = layers[0]
    if type(layer) not in _BUILT_IN or (end := end_of(layers)) is None or end.params["function"] == epilogue.LINEAR:
        return None
    assert isinstance(layer, KernelAndBias)
    z = Spec((1, *layer.output_shape[1:]), FLOAT32)  # type: ignore[index]
    if not bias_activation.has_kernel(z, z.like(z.shape[-1]), **end.params, keep_input=end.keeps_input):
        return None

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        keep_input = training and end.keeps_input
        z, sums_backward = layer.sums(x)
        in_place: Any = (None, z) if keep_input else z  # nothing else reads z
        out = in_place if choose.current() is CPU else None
        y = bias_activation(z, layer.bias.value, **end.params, keep_input=keep_input, out=out)
        y, kept = y if keep_input else (y, y)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return sums_backward(end.backward(dy, kept), need_dx=need_dx)

        return y, backward

    return Node(end.layers, forward, fused=True, needs_input=end.keeps_input)


REWRITES = (conv_and_pool, conv_and_windows, _conv, _dense, _scores, _sums, batchnorm_and_activation)
"""Tried in this order."""
