"""Convolution along sequences, over images and through volumes."""

from __future__ import annotations

from typing import Any

from ..ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from ..ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight
from .convolution_base import Convolution
from .layer import Backward


class OneRow(Convolution, abstract=True):
    """Base of convolutions along sequences, which are computed as images of one row."""

    def sums(self, x: Any) -> tuple[Any, Backward]:
        """(conv(x, kernel), backward)."""
        z, backward_of_images = super().sums(_one_row(x))

        def backward(dz: Any, need_dx: bool = True) -> Any:
            dx = backward_of_images(_one_row(dz), need_dx=need_dx)
            return dx.reshape(x.shape) if need_dx else None

        return z.reshape(len(z), *z.shape[2:]), backward

    def window(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """How the filters slide over images of one row, as the ops take it."""
        before_and_after = self._padding(shape[2:-1])
        return {
            "strides": (1, *self.strides),
            "padding": ((0, 0), *before_and_after),
            "dilation": (1, *self.dilation_rate),
        }

    def _weight_shape(self, channels: int) -> tuple[int, ...]:
        return (1, *super()._weight_shape(channels))


class Conv1D(OneRow):
    """Slide filters along sequences: (N, W, C) → (N, Q, filters).

    filters        number of filters
    kernel_size    steps that a filter covers
    strides        steps from one position of a filter to the next
    padding        "valid": none, Q = (W - reach) // strides + 1, where a filter reaches over
                   (kernel_size - 1) · dilation_rate + 1 steps; "same": zeros on both sides,
                   Q = ⌈W / strides⌉; "causal": zeros before, so that outputs see no later steps
    data_format    None or "channels_last"
    dilation_rate  steps from one tap of a filter to the next
    groups         number of parts into which channels are split; each filter reads one part
    activation     a name such as "relu", a function, or None for none
    use_bias       whether a bias is added
    *_initializer  start values of kernel and bias
    *_regularizer  penalties on kernel, bias and output that are added to the loss, such as "l2"
    *_constraint   bounds for kernel and bias after each update, such as "max_norm"
    algorithm      name of the algorithm of the op `conv2d`; None for an automatic choice

    A sequence is computed as an image of one row. Weights: kernel (kernel_size, C / groups,
    filters) and bias (filters,). Also takes the arguments of `Layer`. Raises `ArgumentError` for
    arguments out of range, `ShapeError` for inputs without three axes, shorter than a filter, or
    whose channels cannot be split into groups.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.array([[[1], [2], [3], [4]]])
    >>> layers.Conv1D(1, 2, padding="causal", kernel_initializer="ones")(x).ravel().tolist()
    [1.0, 3.0, 5.0, 7.0]
    >>> layers.Conv1D(8, 2, strides=2)(x).shape
    (1, 2, 8)
    """

    rank = 1
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight
    paddings = ("valid", "same", "causal")

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return self._weight_shape(channels)[1:]


class Conv2D(Convolution):
    """Slide filters over images: (N, H, W, C) → (N, P, Q, filters).

    filters        number of filters
    kernel_size    rows and columns of a filter: one number for both, or a pair
    strides        rows and columns from one position of a filter to the next
    padding        "valid": none, P = (H - reach) // stride + 1, where a filter reaches over
                   (rows - 1) · dilation + 1 rows, and Q likewise; "same": zeros around the image,
                   P = ⌈H / stride⌉
    data_format    None or "channels_last"
    dilation_rate  rows and columns from one tap of a filter to the next
    groups         number of parts into which channels are split; each filter reads one part
    activation     a name such as "relu", a function, or None for none
    use_bias       whether a bias is added
    *_initializer  start values of kernel and bias
    *_regularizer  penalties on kernel, bias and output that are added to the loss, such as "l2"
    *_constraint   bounds for kernel and bias after each update, such as "max_norm"
    algorithm      name of the algorithm of the op `conv2d`; None for an automatic choice

    Weights: kernel (rows, columns, C / groups, filters) and bias (filters,). Also takes the
    arguments of `Layer`. Raises `ArgumentError` for arguments out of range, `ShapeError` for inputs
    without four axes, smaller than a filter, or whose channels cannot be split into groups.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer = layers.Conv2D(8, 3)
    >>> layer(np.zeros((2, 28, 28, 1))).shape
    (2, 26, 26, 8)
    >>> [weight.shape for weight in layer.get_weights()]
    [(3, 3, 1, 8), (8,)]
    >>> layers.Conv2D(8, 3, strides=2, padding="same")(np.zeros((2, 28, 28, 1))).shape
    (2, 14, 14, 8)
    """

    rank = 2
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight


class Conv3D(Convolution):
    """Slide filters through volumes, such as videos: (N, D, H, W, C) → (N, O, P, Q, filters).

    filters        number of filters
    kernel_size    planes, rows and columns of a filter: one number for all, or three
    strides        planes, rows and columns from one position of a filter to the next
    padding        "valid": none, O = (D - reach) // stride + 1, where a filter reaches over
                   (planes - 1) · dilation + 1 planes, and P, Q likewise; "same": zeros around the
                   volume, O = ⌈D / stride⌉
    data_format    None or "channels_last"
    dilation_rate  planes, rows and columns from one tap of a filter to the next
    groups         number of parts into which channels are split; each filter reads one part
    activation     a name such as "relu", a function, or None for none
    use_bias       whether a bias is added
    *_initializer  start values of kernel and bias
    *_regularizer  penalties on kernel, bias and output that are added to the loss, such as "l2"
    *_constraint   bounds for kernel and bias after each update, such as "max_norm"
    algorithm      name of the algorithm of the op `conv3d`; None for an automatic choice

    Weights: kernel (planes, rows, columns, C / groups, filters) and bias (filters,). Also takes the
    arguments of `Layer`. Raises `ArgumentError` for arguments out of range, `ShapeError` for inputs
    without five axes, smaller than a filter, or whose channels cannot be split into groups.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Conv3D(3, 2)(np.zeros((1, 4, 6, 6, 2))).shape
    (1, 3, 5, 5, 3)
    >>> layers.Conv3D(3, 2, strides=(1, 2, 2))(np.zeros((1, 4, 6, 6, 2))).shape
    (1, 3, 3, 3, 3)
    """

    rank = 3
    conv, conv_grad_input, conv_grad_weight = conv3d, conv3d_grad_input, conv3d_grad_weight


def _one_row(sequences: Any) -> Any:
    """(batch, steps, channels) → (batch, 1, steps, channels)."""
    return sequences.reshape(len(sequences), 1, *sequences.shape[1:])
