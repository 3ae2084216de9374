"""Transposed convolutions, which enlarge: the gradient of a convolution by its input as a layer.

Forward is `conv_grad_input` of the convolution whose result would have the shape of x, and the
gradient by x is that convolution itself. So its kernels serve both.
"""

from __future__ import annotations

import math
from typing import Any

from ..arguments import Count
from ..config import Configurable
from ..devices.branches import aside
from ..errors import ArgumentError, ShapeError
from ..ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight
from ..ops.conv3d import conv3d, conv3d_grad_input, conv3d_grad_weight
from ..ops.window import Sliding, span
from .convolution_base import Convolution
from .layer import Backward, Shape


class TransposedConvolution(Convolution, abstract=True):
    """Spreads each input through `filters` filters along `rank` axes, and adds where they overlap.

    kernel  (*kernel_size, filters, channels)
    bias    (filters,), unless use_bias=False
    """

    filters_last = False
    sets_itself = ("groups",)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Take strides of the filter's size: (64, 2, 2) is how transposed convolutions are often written."""
        return Configurable.__new__(cls, *args, **kwargs)

    def __init__(
        self,
        filters: Count,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        output_padding: Any = None,
        data_format: Any = None,
        dilation_rate: Any = 1,
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
            *(filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation, use_bias),
            *(kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer),
            *(kernel_constraint, bias_constraint),
            algorithm=algorithm,
            **kwargs,
        )
        self.output_padding = self._output_padding(output_padding)

    def _output_padding(self, value: Any) -> tuple[int, ...] | None:
        if value is None:
            return None
        cells = tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.rank
        whole = all(type(n) is int and n >= 0 for n in cells)
        if not whole or len(cells) != self.rank or any(n >= s for n, s in zip(cells, self.strides, strict=True)):
            raise ArgumentError(
                f"{type(self).__name__}(output_padding={value!r}): give a number of cells below the strides "
                f"{self.strides} for each axis, or leave it out"
            )
        return cells

    def build(self, input_shape: Shape) -> None:
        """Create kernel and bias."""
        self.channels = input_shape[-1]
        self.add_kernel_and_bias((*self.kernel_size, self.filters, self.channels), (self.filters,))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, larger …, filters)."""
        sizes = self._larger(input_shape[1:-1])
        if min(sizes) < 1:
            raise ShapeError(
                f"{self.name}: nothing is left of input {input_shape} with padding={self.padding!r} and "
                f"output_padding={self.output_padding}: use a larger output_padding or leave it out"
            )
        return (input_shape[0], *sizes, self.filters)

    def sums(self, x: Any) -> tuple[Any, Backward]:
        """(the transposed convolution of x with the kernel, backward)."""
        row = (1,) if self.rank == 1 else ()  # sequences are images of one row
        shape, sizes = x.shape, self._larger(x.shape[1:-1])
        weight = self.kernel.value.reshape(*row, *self.kernel.shape)
        images = x.reshape(len(x), *row, *shape[1:])
        window: dict[str, Any] = {
            "strides": (*row, *self.strides),
            "padding": (*((0, 0) for _ in row), *self._padding(shape[1:-1])),
            "dilation": (*row, *self.dilation_rate),
            "groups": 1,
            "algorithm": self.algorithm,
        }

        def backward(dz: Any, need_dx: bool = True) -> Any:
            dz = dz.reshape(len(dz), *row, *dz.shape[1:])
            dweight = self.kernel.gradient.reshape(weight.shape)
            with aside(need_dx):
                self.conv_grad_weight(images, dz, kernel_size=weight.shape[:-2], **window, out=dweight)
            return self.conv(dz, weight, **window).reshape(shape) if need_dx else None

        z = self.conv_grad_input(images, weight, size=(*row, *sizes), **window)
        return z.reshape(len(z), *sizes, self.filters), backward

    def flops(self, input_shape: Shape) -> int:
        """Multiplications and additions for one image."""
        return 2 * math.prod(input_shape[1:]) * math.prod(self.kernel_size) * self.filters

    def sliding(self, input_shape: Shape) -> tuple[Sliding, ...]:
        """Nothing: it spreads its input."""
        return ()

    def _larger(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The extents of the result, as in Keras."""
        larger = []
        for axis, size in enumerate(sizes):
            reach, stride = span(self.kernel_size[axis], self.dilation_rate[axis]), self.strides[axis]
            extra = None if self.output_padding is None else self.output_padding[axis]
            if self.padding == "valid":
                larger.append((size - 1) * stride + (max(reach, stride) if extra is None else reach + extra))
            else:
                larger.append(size * stride if extra is None else (size - 1) * stride + reach % 2 + extra)
        return tuple(larger)

    def _padding(self, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The cells around the result that are cut off: those that the convolution of its gradient pads."""
        pairs = []
        for axis, (size, larger) in enumerate(zip(sizes, self._larger(sizes), strict=True)):
            reach, stride = span(self.kernel_size[axis], self.dilation_rate[axis]), self.strides[axis]
            before = 0
            if self.padding == "same":
                extra = None if self.output_padding is None else self.output_padding[axis]
                total = stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
                before = reach - 1 - min(-(-total // 2), reach - 1)
            pairs.append((before, max((size - 1) * stride + reach - larger - before, 0)))
        return tuple(pairs)


class Conv1DTranspose(TransposedConvolution):
    """Spread sequences through filters: (N, W, C) → (N, Q, filters).

    kernel_size, strides, output_padding  steps; otherwise as `Conv2DTranspose`

    With padding "valid", Q = (W - 1) · strides + max(reach, strides); with "same", Q = W · strides.
    Weights: kernel (kernel_size, filters, C) and bias (filters,). Raises the errors of
    `Conv2DTranspose`.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.array([[[1], [2]]])
    >>> layers.Conv1DTranspose(1, 3, strides=2, kernel_initializer="ones")(x).ravel().tolist()
    [1.0, 1.0, 3.0, 2.0, 2.0]
    """

    rank = 1
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight


class Conv2DTranspose(TransposedConvolution):
    """Spread images through filters, which enlarges them: (N, H, W, C) → (N, P, Q, filters).

    filters         number of filters
    kernel_size     rows and columns of a filter: one number for both, or a pair
    strides         rows and columns from one position of a filter in the result to the next
    padding         "valid": P = (H - 1) · stride + max(reach, stride), where a filter reaches over
                    (rows - 1) · dilation + 1 rows, and Q likewise; "same": P = H · stride
    output_padding  rows and columns beyond the smallest result, below the strides: then P is
                    (H - 1) · stride + reach + output_padding, with "same" reach % 2 for reach
    data_format     None or "channels_last"
    dilation_rate   rows and columns from one tap of a filter to the next
    activation      a name such as "relu", a function, or None for none
    use_bias        whether a bias is added
    *_initializer   start values of kernel and bias
    *_regularizer   penalties on kernel, bias and output that are added to the loss, such as "l2"
    *_constraint    bounds for kernel and bias after each update, such as "max_norm"
    algorithm       name of the algorithm of the op `conv2d`; None for an automatic choice

    Weights: kernel (rows, columns, filters, C) and bias (filters,). Also takes the arguments of
    `Layer`. Raises `ArgumentError` for arguments out of range, `ShapeError` for inputs without four
    axes. A decoder that gives each pixel a class:

    >>> import numpy as np
    >>> from gpucnn import Input, Sequential, layers
    >>> layers.Conv2DTranspose(4, 3, strides=2, padding="same")(np.zeros((1, 7, 7, 8))).shape
    (1, 14, 14, 4)
    >>> model = Sequential([
    ...     Input((8, 8, 1)),
    ...     layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
    ...     layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="softmax"),
    ... ])
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> x = np.random.default_rng(0).random((16, 8, 8, 1))
    >>> history = model.fit(x, (3 * x[..., 0]).astype(int), epochs=30, verbose=0)
    >>> history.history["loss"][-1] < history.history["loss"][0]
    True
    """

    rank = 2
    conv, conv_grad_input, conv_grad_weight = conv2d, conv2d_grad_input, conv2d_grad_weight


class Conv3DTranspose(TransposedConvolution):
    """Spread volumes through filters: (N, D, H, W, C) → (N, O, P, Q, filters).

    kernel_size, strides, output_padding  planes, rows and columns; otherwise as `Conv2DTranspose`

    Weights: kernel (planes, rows, columns, filters, C) and bias (filters,). Raises the errors of
    `Conv2DTranspose`; inputs have five axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Conv3DTranspose(3, 2, strides=(1, 2, 2))(np.zeros((1, 4, 6, 6, 2))).shape
    (1, 5, 12, 12, 3)
    """

    rank = 3
    conv, conv_grad_input, conv_grad_weight = conv3d, conv3d_grad_input, conv3d_grad_weight
