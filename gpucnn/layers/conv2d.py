"""Convolution over images."""

from __future__ import annotations

from typing import Any

from ..ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from .convolution import Convolution


class Conv2D(Convolution):
    """Slide `filters` filters over images: (batch, rows, columns, channels) → (batch, new …, filters).

    As in Keras 3; `padding` is "valid" or "same". `algorithm` chooses the kernels by name. Weights: kernel (rows,
    columns, channels / groups, filters) and bias (filters,).
    """

    rank = 2
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        algorithm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            groups,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            kernel_constraint,
            bias_constraint,
            activity_regularizer=activity_regularizer,
            algorithm=algorithm,
            **kwargs,
        )


Convolution2D = Conv2D
