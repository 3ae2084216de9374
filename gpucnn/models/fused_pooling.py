"""A convolution and the pooling behind it as one node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..devices.branches import aside
from ..dispatch.case import Spec
from ..layers.conv import Conv2D
from ..layers.convolution_base import Convolution
from ..layers.layer import Backward, Layer
from ..layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from ..ops import epilogue
from ..ops.bias_activation import bias_activation_grad
from ..ops.conv2d import conv2d_grad_input, conv2d_grad_weight
from ..ops.conv_pool import MOST_TAPS, conv_bias_activation_pool, conv_pool_grad_sums
from ..ops.fused import (
    conv2d_bias_activation_maxpool,
    conv2d_maxpool_grad_input,
    conv2d_maxpool_grad_sums,
    conv2d_maxpool_grad_weight,
)
from .ends import CONVOLUTIONS, End, chosen, end_of, image_of_one, images, of_one, operands_of
from .node import Node

_FEW_CHANNELS = 32
"""Of so few, the gradient of a pooled 1 × 1 convolution is faster by products that take in the cells that lost."""

_LARGEST = MaxPooling1D, MaxPooling2D, MaxPooling3D
_LARGEST_OF_ALL = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
_MEAN_OF_ALL = GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalAveragePooling3D
_OPS_OF_WINDOWS: dict[type, tuple[str, str]] = {
    **dict.fromkeys(_LARGEST, ("maxpool2d", "maxpool2d_grad")),
    **dict.fromkeys(_LARGEST_OF_ALL, ("globalmaxpool", "globalmaxpool_grad")),
    **dict.fromkeys((AveragePooling1D, AveragePooling2D, AveragePooling3D), ("avgpool2d", "avgpool2d_grad")),
    **dict.fromkeys(_MEAN_OF_ALL, ("globalavgpool", "globalavgpool_grad")),
}
"""What `conv_bias_activation_pool` and its gradient replace, apart from what those of a convolution do."""


def _pooled(layers: list[Layer], convolutions: Any, pools: Any) -> tuple[Convolution, End, Any] | None:
    """A convolution of these kinds, its end and pooling of these kinds behind it; None if an algorithm was chosen for
    any of them."""
    conv = layers[0]
    if type(conv) not in convolutions or (end := end_of(layers)) is None or not end.behind:
        return None
    assert isinstance(conv, Convolution)
    pool = end.behind[0]
    if type(pool) not in pools or conv.algorithm is not None or getattr(pool, "algorithm", None) is not None:
        return None
    return None if chosen(conv.conv.name, *_OPS_OF_WINDOWS[type(pool)]) else (conv, end, pool)


def conv_and_pool(layers: list[Layer]) -> Node | None:
    """Conv2D, then the largest of each 2 × 2; the pooled values and places are kept."""
    if (found := _pooled(layers, (Conv2D,), (MaxPooling2D,))) is None:
        return None
    conv, end, pool = found
    assert isinstance(conv, Conv2D) and isinstance(pool, MaxPooling2D)
    if conv.kernel_size == (1, 1) and conv.kernel.shape[2] <= _FEW_CHANNELS and (node := conv_and_windows(layers)):
        return node
    if conv.groups != 1 or (pool.pool_size, pool.strides, pool.padding) != ((2, 2), (2, 2), "valid"):
        return None
    if chosen("conv2d_grad_input", "conv2d_grad_weight") or not epilogue.rises(**end.params):
        return None
    if not conv2d_bias_activation_maxpool.has_kernel(*operands_of(conv), **end.params, **conv.window(of_one(conv))):
        return None
    needs_slope = end.params["function"] not in ("relu", epilogue.LINEAR)
    sparse = _has_sparse_gradients(conv)

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        weight, window = conv.kernel.value, conv.window(x.shape)
        y, index = conv2d_bias_activation_maxpool(x, weight, conv.bias.value, **end.params, **window)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dz = bias_activation_grad(dy, y, **end.params)[0] if needs_slope else dy
            gradients = conv.kernel.gradient, conv.bias.gradient
            if not sparse:
                return _dense_pool_gradients(conv, dz, index, x, need_dx)
            with aside(need_dx):
                conv2d_maxpool_grad_weight(dz, index, x, kernel_size=conv.kernel_size, **window, out=gradients)
            return conv2d_maxpool_grad_input(dz, index, weight, size=x.shape[1:3], **window) if need_dx else None

        return y, backward

    return Node([*end.layers, pool], forward, fused=True)


def _has_sparse_gradients(conv: Conv2D) -> bool:
    """Whether kernels for the gradients of a pooled convolution pick the values of dy by their cells, and
    are expected to be faster than those that need all of dz."""
    x, window = operands_of(conv)[0], conv.window(of_one(conv))
    rows, columns, filters = conv.output_shape[1:]  # type: ignore[index]
    dy = x.like(1, rows // 2, columns // 2, filters)
    index = Spec(dy.shape, np.dtype(np.uint8))
    return conv2d_maxpool_grad_weight.has_kernel(dy, index, x, kernel_size=conv.kernel_size, **window)


def _dense_pool_gradients(conv: Conv2D, dy: Any, index: Any, x: Any, need_dx: bool) -> Any:
    """dx or None, by way of the gradient of the results before pooling; the gradients of kernel and bias
    are written."""
    window, weight = conv.window(x.shape), conv.kernel.value
    size = conv.output_shape[1:3]  # type: ignore[index]
    dz = conv2d_maxpool_grad_sums(dy, index, size=size, out=(None, conv.bias.gradient))[0]
    with aside(need_dx):
        conv2d_grad_weight(dz, x, kernel_size=conv.kernel_size, groups=1, **window, out=conv.kernel.gradient)
    return conv2d_grad_input(dz, weight, size=x.shape[1:3], groups=1, **window) if need_dx else None


class _Windows(Node):
    """A convolution and pooling, whose gradient takes as much memory as what the convolution gives."""

    def outputs(self) -> list[Any]:
        """That of the convolution and that of the pooling."""
        return [self.layers[0].output_shape, self.layers[-1].output_shape]


def conv_and_windows(layers: list[Layer]) -> Node | None:
    """A convolution, then the largest or the mean of windows of any size. Of the largest, the places are kept; of
    a mean, what it was taken of."""
    found = _pooled(layers, CONVOLUTIONS, _OPS_OF_WINDOWS)
    if found is None or found[1].keeps_input:
        return None
    conv, end, pool = found
    kind = "max" if type(pool) in (*_LARGEST, *_LARGEST_OF_ALL) else "mean"
    params = {**end.params, "kind": kind, **_windows(pool)}
    if kind == "max" and not _has_places(params):
        return None
    assert conv.output_shape and pool.output_shape
    size, outputs = image_of_one(conv, conv.output_shape)[1:-1], pool.output_shape[1:]
    operands, groups = operands_of(conv), conv.op_groups
    window = conv.window(operands[0].shape)
    if not conv_bias_activation_pool.has_kernel(*operands, **params, **window, groups=groups, keep=True):
        return None
    needs_slope = kind == "max" and end.params["function"] not in ("relu", epilogue.LINEAR)
    of_sums = params | (epilogue.end(epilogue.LINEAR) if kind == "max" else {}) | {"size": size}

    def forward(x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        shape, x = x.shape, images(conv, x)
        weight, window = conv.op_weight, {**conv.window(x.shape), "groups": groups}
        y = conv_bias_activation_pool(x, weight, conv.bias.value, **params, **window, keep=training)
        y, kept = y if training else (y, None)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dy = dy.reshape(y.shape)
            if needs_slope:
                dy = bias_activation_grad(dy, y, **end.params)[0]
            dz = conv_pool_grad_sums(dy, kept, **of_sums, out=(None, conv.bias.gradient))[0]
            size, dweight = weight.shape[:-2], conv.kernel.gradient.reshape(weight.shape)
            with aside(need_dx):
                conv.conv_grad_weight(dz, x, kernel_size=size, **window, out=dweight)
            if not need_dx:
                return None
            return conv.conv_grad_input(dz, weight, size=x.shape[1:-1], **window).reshape(shape)

        return y.reshape((len(x), *outputs)), backward

    return _Windows([*end.layers, pool], forward, fused=True, needs_input=True)


def _windows(pool: Layer) -> dict[str, Any]:
    """The windows of a pooling layer, as the op takes them."""
    if isinstance(pool, (*_LARGEST_OF_ALL, *_MEAN_OF_ALL)):
        size = image_of_one(pool)[1:-1]
        return {"pool": size, "pool_strides": size, "pool_padding": ((0, 0),) * len(size)}
    axes = [(axis.size, axis.stride, axis.padding) for axis in pool.sliding(pool.input_shape)]  # type: ignore[arg-type]
    axes = [(1, 1, (0, 0)), *axes] if len(axes) == 1 else axes
    return dict(zip(("pool", "pool_strides", "pool_padding"), zip(*axes, strict=True), strict=True))


def _has_places(params: dict[str, Any]) -> bool:
    """Whether the largest of a window has a place, and the same one before and behind the activation."""
    return math.prod(params["pool"]) < MOST_TAPS and epilogue.rises(params["function"], params["alpha"])
