"""Convolution of each channel by separate filters."""

from __future__ import annotations

from typing import Any

from ..arguments import Count
from ..ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from .conv import OneRow
from .convolution_base import Convolution


class DepthwiseConvolution(Convolution, abstract=True):
    """Slides `depth_multiplier` filters over each channel: a convolution in as many groups as channels.

    kernel  (*kernel_size, channels, depth_multiplier)
    bias    (channels · depth_multiplier,), unless use_bias=False
    """

    sets_itself = ("filters", "groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint")
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        depth_multiplier: Count = 1,
        data_format: Any = None,
        dilation_rate: Any = 1,
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
        self.depth_multiplier = int(depth_multiplier)
        super().__init__(
            *(depth_multiplier, kernel_size, strides, padding, data_format, dilation_rate, 1, activation, use_bias),
            *(depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, activity_regularizer),
            *(depthwise_constraint, bias_constraint),
            algorithm=algorithm,
            **kwargs,
        )

    def _groups(self, channels: int) -> int:
        return channels

    def _weight_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, 1, channels * self.depth_multiplier)

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, channels, self.depth_multiplier)


class DepthwiseConv1D(OneRow, DepthwiseConvolution):
    """Slide filters over each channel of sequences separately: (N, W, C) → (N, Q, C · depth_multiplier).

    kernel_size, strides  steps; otherwise as `DepthwiseConv2D`

    Weights: kernel (kernel_size, C, depth_multiplier) and bias (C · depth_multiplier,). Raises the
    errors of `DepthwiseConv2D`; inputs have three axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.DepthwiseConv1D(3, depth_multiplier=2)(np.zeros((1, 9, 4))).shape
    (1, 7, 8)
    """

    rank = 1


class DepthwiseConv2D(DepthwiseConvolution):
    """Slide filters over each channel separately: (N, H, W, C) → (N, P, Q, C · depth_multiplier).

    kernel_size       rows and columns of a filter: one number for both, or a pair
    strides           rows and columns from one position of a filter to the next
    padding           "valid" or "same", as in `Conv2D`
    depth_multiplier  number of filters for each channel
    data_format       None or "channels_last"
    dilation_rate     rows and columns from one tap of a filter to the next
    activation        a name such as "relu", a function, or None for none
    use_bias          whether a bias is added
    *_initializer     start values of kernel and bias
    *_regularizer     penalties on kernel, bias and output that are added to the loss, such as "l2"
    *_constraint      bounds for kernel and bias after each update, such as "max_norm"
    algorithm         name of the algorithm of the op `conv2d`; None for an automatic choice

    It is a convolution in C groups. Weights: kernel (rows, columns, C, depth_multiplier) and bias
    (C · depth_multiplier,). Also takes the arguments of `Layer`. Raises `ArgumentError` for
    arguments out of range, `ShapeError` for inputs without four axes or smaller than a filter.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
    >>> layer(np.zeros((1, 5, 5, 3))).shape
    (1, 3, 3, 6)
    >>> [weight.shape for weight in layer.get_weights()]
    [(3, 3, 3, 2), (6,)]
    """

    rank = 2
