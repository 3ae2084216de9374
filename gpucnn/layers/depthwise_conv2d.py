"""Convolution of each channel by filters of its own."""

from __future__ import annotations

from typing import Any

from ..ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from .arguments import positive
from .convolution import Convolution


class DepthwiseConv2D(Convolution):
    """Slide `depth_multiplier` filters over each channel alone: C channels become C · depth_multiplier.

    As in Keras 3: (batch, rows, columns, C) → (batch, new rows, new columns, C · depth_multiplier). It is a convolution
    in C groups. Weights: kernel (rows, columns, C, depth_multiplier) and bias (C · depth_multiplier,).
    """

    rank = 2
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        algorithm: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.depth_multiplier = positive("DepthwiseConv2D", "depth_multiplier", depth_multiplier)
        super().__init__(
            self.depth_multiplier,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            1,
            activation,
            use_bias,
            depthwise_initializer,
            bias_initializer,
            depthwise_regularizer,
            bias_regularizer,
            depthwise_constraint,
            bias_constraint,
            activity_regularizer=activity_regularizer,
            algorithm=algorithm,
            **kwargs,
        )

    def _groups(self, channels: int) -> int:
        return channels

    def _weight_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, 1, channels * self.depth_multiplier)

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, channels, self.depth_multiplier)
