"""The shape rules of the fused ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dispatch.case import Spec
from ..dispatch.op import Op
from ..errors import ArgumentError, ShapeError
from . import epilogue
from .bias_activation import bias_activation_grad
from .conv2d import AXES, conv2d_grad_weight
from .convolution import output
from .dropout import dropout
from .epilogue import ended_outputs, rises
from .fused_cases import DRAWS
from .matmul import matmul
from .window import Pair, pooled


def conv_output(name: str, x: Spec, weight: Spec, *, groups: int = 1, **window: Any) -> Spec:
    """Of the convolution alone."""
    return output(AXES._replace(op=name), x, weight, groups=groups, **window)


def conv_outputs(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool, **window: Any
) -> Any:
    """Of `conv2d_bias_activation`."""
    z = conv_output("conv2d_bias_activation", x, weight, **window)
    return ended_outputs("conv2d_bias_activation", z, b, function, keep_input)


def grad_weight_outputs(
    dy: Spec, y: Spec, x: Spec, *, function: str, alpha: float, kernel_size: Pair, scale: float = 1.0, **window: Any
) -> tuple[Spec, ...]:
    """Of `conv2d_bias_activation_grad_weight`."""
    epilogue.check_of_result("conv2d_bias_activation_grad_weight", function, alpha)
    bias_activation_grad.specs(dy, y, function=function, alpha=alpha)
    return (*conv2d_grad_weight.specs(dy, x, kernel_size=kernel_size, groups=1, **window), dy.like(dy.shape[-1]))


def conv_pool_outputs(
    x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, **window: Any
) -> tuple[Spec, Spec]:
    """Of `conv2d_bias_activation_maxpool`."""
    name = "conv2d_bias_activation_maxpool"
    z = conv_output(name, x, weight, **window)
    ended_outputs(name, z, b, function, False)
    if not rises(function, alpha):
        raise ArgumentError(f"{name}: {function} with alpha={alpha} falls somewhere: pool its results instead")
    y = pooled(z.shape)
    if not min(y):
        raise ShapeError(f"{name}: the convolution gives (N, P, Q, K) = {z.shape}, too small for windows of 2 × 2")
    return Spec(y, z.dtype), Spec(y, np.dtype(np.uint8))


def _check_pooled(name: str, dy: Spec, index: Spec, z: Spec) -> None:
    if dy != Spec(pooled(z.shape), z.dtype) or index != Spec(dy.shape, np.dtype(np.uint8)):
        raise ShapeError(
            f"{name}: dy is {dy.shape} {dy.dtype} and index {index.shape} {index.dtype}, but "
            f"conv2d_bias_activation_maxpool returns {pooled(z.shape)} {z.dtype} and uint8"
        )


def pool_grad_weight_outputs(dy: Spec, index: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> tuple[Spec, Spec]:
    """Of `conv2d_maxpool_grad_weight`."""
    name = "conv2d_maxpool_grad_weight"
    weight = x.like(*kernel_size, x.shape[-1], dy.shape[-1])
    _check_pooled(name, dy, index, conv_output(name, x, weight, **window))
    return weight, x.like(dy.shape[-1])


def pool_grad_input_outputs(dy: Spec, index: Spec, weight: Spec, *, size: Any, **window: Any) -> Spec:
    """Of `conv2d_maxpool_grad_input`."""
    name = "conv2d_maxpool_grad_input"
    x = dy.like(dy.shape[0], *size, weight.shape[2])
    _check_pooled(name, dy, index, conv_output(name, x, weight, **window))
    return x


def pool_grad_sums_outputs(dy: Spec, index: Spec, *, size: Pair) -> tuple[Spec, Spec]:
    """Of `conv2d_maxpool_grad_sums`."""
    if len(dy.shape) != 4:
        raise ShapeError(f"conv2d_maxpool_grad_sums: dy is (N, P // 2, Q // 2, K) and has shape {dy.shape}")
    _check_pooled("conv2d_maxpool_grad_sums", dy, index, z := dy.like(dy.shape[0], *size, dy.shape[3]))
    return z, dy.like(dy.shape[3])


def matmul_outputs(x: Spec, weight: Spec, b: Spec, *, function: str, alpha: float, keep_input: bool) -> Any:
    """Of `matmul_bias_activation`."""
    (z,) = matmul.specs(x, weight, transpose_a=False, transpose_b=False)
    return ended_outputs("matmul_bias_activation", z, b, function, keep_input)


def before_dropout(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an op, from those of the op followed by dropout."""
    return {"keep_input": False, **{name: value for name, value in params.items() if name not in DRAWS}}


def dropped_outputs(ended: Op) -> Callable[..., Spec]:
    """Of an op followed by dropout."""

    def outputs(x: Spec, weight: Spec, b: Spec, step: Spec, **params: Any) -> Spec:
        (y,) = ended.specs(x, weight, b, **before_dropout(params))
        return dropout.specs(y, step, **{name: value for name, value in params.items() if name in DRAWS})[0]

    return outputs
