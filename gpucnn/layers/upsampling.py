"""Layers that enlarge their inputs by whole factors: each cell repeated, or interpolated."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from ..arguments import Count, channels_last, extents
from ..errors import ArgumentError
from ..ops.upsampling import enlarge, enlarge_grad, repeat, repeat_grad
from .layer import Backward, Layer, Shape


class UpSampling(Layer, abstract=True):
    """Repeat each cell along `rank` axes."""

    rank: ClassVar[int]

    def __init__(self, size: Any, data_format: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels_last(type(self).__name__, data_format)
        self.size = extents(type(self).__name__, "size", size, self.rank)
        self.ndim = self.rank + 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, larger …, channels)."""
        grown = (extent * factor for extent, factor in zip(input_shape[1:-1], self.size, strict=True))
        return (input_shape[0], *grown, input_shape[-1])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        ones = (1,) * (3 - self.rank)
        shape, size = x.shape, (*ones, *self.size)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            if not need_dx:
                return None
            return repeat_grad(dy.reshape(len(dy), *ones, *dy.shape[1:]), size=size).reshape(shape)

        y = repeat(x.reshape(len(x), *ones, *shape[1:]), size=size)
        return y.reshape(self.compute_output_shape(shape)), backward


class UpSampling1D(UpSampling):
    """Repeat each step of sequences: (N, W, C) → (N, W · size, C).

    size  how often

    Also takes the arguments of `Layer`. Raises `ArgumentError` for sizes below 1.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.UpSampling1D(2)(np.array([[[3], [4]]])).ravel().tolist()
    [3.0, 3.0, 4.0, 4.0]
    """

    sets_itself = ("data_format",)
    rank = 1

    def __init__(self, size: Any = 2, **kwargs: Any) -> None:
        super().__init__(size, None, **kwargs)


class UpSampling2D(UpSampling):
    """Enlarge images by whole factors: (N, H, W, C) → (N, H · size, W · size, C).

    size           factor of rows and columns: one number for both, or a pair
    data_format    None or "channels_last"
    interpolation  "nearest": each pixel is repeated; "bilinear": values between the centres of pixels

    Also takes the arguments of `Layer`. Raises `ArgumentError` for sizes below 1, and for "bicubic",
    "lanczos3" and "lanczos5", which Keras has.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.array([0, 4]).reshape(1, 1, 2, 1)
    >>> layers.UpSampling2D((1, 2))(x).ravel().tolist()
    [0.0, 0.0, 4.0, 4.0]
    >>> layers.UpSampling2D((1, 2), interpolation="bilinear")(x).ravel().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """

    rank = 2

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: Any = None,
        interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(size, data_format, **kwargs)
        if interpolation not in ("nearest", "bilinear"):
            raise ArgumentError(f"UpSampling2D(interpolation={interpolation!r}) is not in gpucnn: use 'bilinear'")
        self.interpolation = interpolation

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        if self.interpolation == "nearest":
            return super().forward(x, step, training)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return enlarge_grad(dy, size=self.size) if need_dx else None

        return enlarge(x, size=self.size), backward

    def flops(self, input_shape: Shape) -> int:
        """Four products and four sums for each interpolated value."""
        return 0 if self.interpolation == "nearest" else 8 * math.prod(self.compute_output_shape(input_shape)[1:])


class UpSampling3D(UpSampling):
    """Repeat each cell of volumes: (N, D, H, W, C) → (N, D · size, H · size, W · size, C).

    size         how often along planes, rows and columns: one number for all, or three
    data_format  None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for sizes below 1.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.UpSampling3D((1, 2, 3))(np.ones((1, 2, 3, 4, 1))).shape
    (1, 2, 6, 12, 1)
    """

    rank = 3

    def __init__(self, size: Any = (2, 2, 2), data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(size, data_format, **kwargs)


class RepeatVector(Layer):
    """Repeat each row of values: (N, K) → (N, n, K).

    n  how often

    Also takes the arguments of `Layer`. Raises `ArgumentError` for n below 1, `ShapeError` for
    inputs without two axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.RepeatVector(2)(np.array([[1, 2]])).tolist()
    [[[1.0, 2.0], [1.0, 2.0]]]
    """

    ndim = 2

    def __init__(self, n: Count, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = int(n)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, n, values)."""
        return (input_shape[0], self.n, input_shape[1])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        (rows, columns), size = x.shape, (1, 1, self.n)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            if not need_dx:
                return None
            return repeat_grad(dy.reshape(rows, 1, 1, self.n, columns), size=size).reshape(rows, columns)

        return repeat(x.reshape(rows, 1, 1, 1, columns), size=size).reshape(rows, self.n, columns), backward
