"""Convolution along sequences, over images and through volumes."""

from __future__ import annotations

from typing import Any

from ..ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from ..ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight
from .convolution import Convolution
from .layer import Backward


class Conv1D(Convolution):
    """Slide `filters` filters along sequences: (batch, steps, channels) → (batch, new …, filters).

    As in Keras 3; `padding` is "valid", "same" or "causal" (no step sees a later one). `algorithm` chooses the kernels
    of `conv2d` by name: a sequence is an image of one row. Weights: kernel (size, channels / groups, filters) and
    bias (filters,).
    """

    rank = 1
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight
    paddings = ("valid", "same", "causal")

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int],
        strides: int | tuple[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int] = 1,
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

    def linear(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(conv(x, kernel) + bias, backward)."""
        z, backward_of_images = super().linear(_one_row(x), step, training)

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

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return self._weight_shape(channels)[1:]


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


class Conv3D(Convolution):
    """Slide `filters` filters through volumes: (batch, planes, rows, columns, channels) → (batch, new …, filters).

    As in Keras 3; `padding` is "valid" or "same". `algorithm` chooses the kernels by name. Weights: kernel (planes,
    rows, columns, channels / groups, filters) and bias (filters,).
    """

    rank = 3
    conv, conv_grad_input, conv_grad_weight = conv3d, conv3d_grad_input, conv3d_grad_weight

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int, int],
        strides: int | tuple[int, int, int] = (1, 1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int, int] = (1, 1, 1),
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


def _one_row(sequences: Any) -> Any:
    """(batch, steps, channels) → (batch, 1, steps, channels)."""
    return sequences.reshape(len(sequences), 1, *sequences.shape[1:])


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
