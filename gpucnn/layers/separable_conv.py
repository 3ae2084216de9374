"""Convolutions in two steps: each channel by filters of its own, then all channels of one position."""

from __future__ import annotations

import math
from typing import Any

from ..arguments import Count
from ..devices.branches import aside
from ..ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from .convolution_base import Convolution
from .layer import Backward, Shape


class SeparableConvolution(Convolution, abstract=True):
    """y = activation(pointwise(depthwise(x)) + bias).

    depthwise_kernel  (*kernel_size, channels, depth_multiplier)
    pointwise_kernel  (1, …, channels · depth_multiplier, filters)
    bias              (filters,), unless use_bias=False
    """

    filters_last = False
    sets_itself = ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint")
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight

    def __init__(
        self,
        filters: Count,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        data_format: Any = None,
        dilation_rate: Any = 1,
        depth_multiplier: Count = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        algorithm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            *(filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation, use_bias),
            *(pointwise_initializer, bias_initializer, pointwise_regularizer, bias_regularizer, activity_regularizer),
            *(pointwise_constraint, bias_constraint),
            algorithm=algorithm,
            **kwargs,
        )
        self.depth_multiplier = int(depth_multiplier)
        self.depthwise_initializer = depthwise_initializer
        self.depthwise_regularizer, self.depthwise_constraint = depthwise_regularizer, depthwise_constraint
        self.pointwise_initializer = pointwise_initializer
        self.pointwise_regularizer, self.pointwise_constraint = pointwise_regularizer, pointwise_constraint
        self.check_arguments_of_weights("depthwise", "pointwise")

    def build(self, input_shape: Shape) -> None:
        """Create both kernels and the bias."""
        self.channels = input_shape[-1]
        wide = self.channels * self.depth_multiplier
        depthwise = self.depthwise_initializer, None, True, self.depthwise_regularizer, self.depthwise_constraint
        pointwise = self.pointwise_initializer, None, True, self.pointwise_regularizer, self.pointwise_constraint
        shape = (*self.kernel_size, self.channels, self.depth_multiplier)
        self.depthwise_kernel = self.add_weight(shape, *depthwise, "depthwise_kernel")
        self.pointwise_kernel = self.add_weight((*(1,) * self.rank, wide, self.filters), *pointwise, "pointwise_kernel")
        if self.use_bias:
            self.bias = self.add_weight_by_name("bias", (self.filters,))

    def sums(self, x: Any) -> tuple[Any, Backward]:
        """(the pointwise of the depthwise convolution, backward)."""
        row = (1,) if self.rank == 1 else ()  # sequences are images of one row
        shape, wide = x.shape, self.channels * self.depth_multiplier
        images = x.reshape(len(x), *row, *shape[1:])
        sizes = (*row, *self.kernel_size)
        depthwise = self.depthwise_kernel.value.reshape(*sizes, 1, wide)
        pointwise = self.pointwise_kernel.value.reshape(1, 1, wide, self.filters)
        padding = (*((0, 0) for _ in row), *self._padding(shape[1:-1]))
        first: dict[str, Any] = {
            "strides": (*row, *self.strides),
            "padding": padding,
            "dilation": (*row, *self.dilation_rate),
            "groups": self.channels,
            "algorithm": self.algorithm,
        }
        second: dict[str, Any] = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
        second["algorithm"] = self.algorithm
        middle = conv2d(images, depthwise, **first)

        def backward(dz: Any, need_dx: bool = True) -> Any:
            dz = dz.reshape(len(dz), *row, *dz.shape[1:])
            of_pointwise = self.pointwise_kernel.gradient.reshape(pointwise.shape)
            with aside():
                conv2d_grad_weight(dz, middle, kernel_size=(1, 1), **second, out=of_pointwise)
            dmiddle = conv2d_grad_input(dz, pointwise, size=middle.shape[1:3], **second)
            of_depthwise = self.depthwise_kernel.gradient.reshape(depthwise.shape)
            with aside(need_dx):
                conv2d_grad_weight(dmiddle, images, kernel_size=sizes, **first, out=of_depthwise)
            if not need_dx:
                return None
            return conv2d_grad_input(dmiddle, depthwise, size=images.shape[1:3], **first).reshape(shape)

        z = conv2d(middle, pointwise, **second)
        return z.reshape(len(z), *z.shape[1 + len(row) :]), backward

    def flops(self, input_shape: Shape) -> int:
        """Multiplications and additions of both convolutions of one image."""
        wide = input_shape[-1] * self.depth_multiplier
        positions = math.prod(self.compute_output_shape(input_shape)[1:-1])
        return 2 * positions * wide * (math.prod(self.kernel_size) + self.filters)


class SeparableConv1D(SeparableConvolution):
    """Filter each channel of sequences alone, then mix the channels: (N, W, C) → (N, Q, filters).

    kernel_size, strides  steps; otherwise as `SeparableConv2D`

    Weights: depthwise_kernel (kernel_size, C, depth_multiplier), pointwise_kernel
    (1, C · depth_multiplier, filters) and bias (filters,). Raises the errors of `SeparableConv2D`.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.SeparableConv1D(8, 3, padding="same")(np.zeros((1, 9, 4))).shape
    (1, 9, 8)
    """

    rank = 1


class SeparableConv2D(SeparableConvolution):
    """Filter each channel of images alone, then mix the channels: (N, H, W, C) → (N, P, Q, filters).

    filters           number of filters that mix the channels
    kernel_size       rows and columns of a filter of one channel: one number for both, or a pair
    strides           rows and columns from one position of a filter to the next
    padding           "valid" or "same", as in `Conv2D`
    data_format       None or "channels_last"
    dilation_rate     rows and columns from one tap of a filter to the next
    depth_multiplier  number of filters for each channel
    activation        a name such as "relu", a function, or None for none
    use_bias          whether a bias is added
    *_initializer     start values of both kernels and the bias
    *_regularizer     penalties on kernels, bias and output that are added to the loss, such as "l2"
    *_constraint      bounds for kernels and bias after each update, such as "max_norm"
    algorithm         name of the algorithm of the op `conv2d`; None for an automatic choice

    Weights: depthwise_kernel (rows, columns, C, depth_multiplier), pointwise_kernel
    (1, 1, C · depth_multiplier, filters) and bias (filters,). Also takes the arguments of `Layer`.
    Raises `ArgumentError` for arguments out of range, `ShapeError` for inputs without four axes or
    smaller than a filter.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer = layers.SeparableConv2D(8, 3, depth_multiplier=2)
    >>> layer(np.zeros((1, 5, 5, 3))).shape
    (1, 3, 3, 8)
    >>> [weight.shape for weight in layer.get_weights()]
    [(3, 3, 3, 2), (1, 1, 6, 8), (8,)]
    """

    rank = 2
