"""Pooling over windows, and over whole sequences, images and volumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from ..arguments import channels_last, extents, padding_name
from ..errors import ShapeError
from ..ops.globalpool import globalavgpool, globalavgpool_grad, globalmaxpool, globalmaxpool_grad
from ..ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad
from ..ops.window import positions, same_padding
from .layer import Backward, Layer, Shape

Pool = tuple[Any, Callable[[Any], Any]]


def _maximum(x: Any, window: dict[str, Any]) -> Pool:
    y = maxpool2d(x, **window)
    return y, lambda dy: maxpool2d_grad(dy, x, y, **window)


def _mean(x: Any, window: dict[str, Any]) -> Pool:
    size = x.shape[1:3]
    return avgpool2d(x, **window), lambda dy: avgpool2d_grad(dy, size=size, **window)


def _global_maximum(x: Any) -> Pool:
    return globalmaxpool(x), lambda dy: globalmaxpool_grad(dy, x)


def _global_mean(x: Any) -> Pool:
    count = x.shape[1]
    return globalavgpool(x), lambda dy: globalavgpool_grad(dy, count=count)


class Pooling(Layer, abstract=True):
    """Slides a window along `rank` axes: (batch, …, channels) → (batch, fewer …, channels)."""

    rank: ClassVar[int]
    pool: ClassVar[Any]
    """A function of images x and a window that returns (y, gradient), gradient(dy) being dx."""

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: Any = "valid",
        data_format: Any = None,
        name: str | None = None,
        *,
        algorithm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        owner = type(self).__name__
        channels_last(owner, data_format)
        self.pool_size = extents(owner, "pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else extents(owner, "strides", strides, self.rank)
        self.padding = padding_name(owner, padding)
        self.algorithm = algorithm
        self.ndim = self.rank + 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, *positions of the window, channels)."""
        sizes = input_shape[1:-1]
        counts = tuple(map(positions, sizes, self.pool_size, self.strides, (1,) * self.rank, self._padding(sizes)))
        for size, window, count in zip(sizes, self.pool_size, counts, strict=True):
            if not count:
                raise ShapeError(
                    f"{self.name}: a window of {window} does not fit into {size}, input {input_shape}: nothing would be"
                    " left; pool less before, or use padding='same'"
                )
        return (input_shape[0], *counts, input_shape[-1])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        shape, y, gradients = x.shape, x, []
        for images, window in self._passes(shape):
            y, gradient = self.pool(y.reshape(images), window)
            gradients.append((y.shape, gradient))

        def backward(dy: Any, need_dx: bool = True) -> Any:
            if not need_dx:
                return None
            for pooled, gradient in reversed(gradients):
                dy = gradient(dy.reshape(pooled))
            return dy.reshape(shape)

        return y.reshape(self.compute_output_shape(shape)), backward

    def flops(self, input_shape: Shape) -> int:
        """One comparison or addition for each cell of each window."""
        return math.prod(self.compute_output_shape(input_shape)[1:]) * math.prod(self.pool_size)

    def _passes(self, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
        """The shape and the window of each pooling of images that the layer consists of.

        A sequence is an image of one row. A volume is pooled over rows and columns first, as
        images, and then over depth, as an image whose columns are all its pixels: the window is
        separable, and ties go to the same cell.
        """
        n, *sizes, c = shape
        axes = list(zip(self.pool_size, self.strides, self._padding(tuple(sizes)), strict=True))
        single = (1, 1, (0, 0))
        if self.rank == 1:
            return [((n, 1, *sizes, c), self._window(single, axes[0]))]
        if self.rank == 2:
            return [(shape, self._window(*axes))]
        depth, *size = sizes
        pixels = math.prod(self.compute_output_shape(shape)[2:-1])
        return [
            ((n * depth, *size, c), self._window(*axes[1:])),
            ((n, depth, pixels, c), self._window(axes[0], single)),
        ]

    def _window(self, *axes: tuple[int, int, tuple[int, int]]) -> dict[str, Any]:
        pool, strides, padding = zip(*axes, strict=True)
        return {"pool": pool, "strides": strides, "padding": padding, "algorithm": self.algorithm}

    def _padding(self, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        if self.padding == "same":
            return tuple(map(same_padding, sizes, self.pool_size, self.strides))
        return ((0, 0),) * self.rank


class _MaxPooling(Pooling, abstract=True):
    pool = staticmethod(_maximum)

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        data_format: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class _AveragePooling(Pooling, abstract=True):
    pool = staticmethod(_mean)


class MaxPooling1D(_MaxPooling):
    """Take the largest value of each window of steps: (N, W, C) → (N, Q, C).

    pool_size    steps of a window; 2 by default
    strides      steps from one window to the next; None for pool_size
    padding      "valid": windows lie inside, Q = (W - pool_size) // strides + 1;
                 "same": Q = ⌈W / strides⌉, the padding never wins
    data_format  None or "channels_last"
    algorithm    name of the algorithm of the op `maxpool2d`; None for an automatic choice

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range,
    `ShapeError` for inputs without three axes or smaller than a window.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(6).reshape(1, 6, 1)
    >>> layers.MaxPooling1D(2)(x).ravel().tolist()
    [1.0, 3.0, 5.0]
    >>> layers.MaxPooling1D(4, padding="same")(x).ravel().tolist()
    [2.0, 5.0]
    """

    rank = 1


class MaxPooling2D(_MaxPooling):
    """Take the largest value of each window of pixels: (N, H, W, C) → (N, P, Q, C).

    pool_size    rows and columns of a window: one number for both, or a pair; 2 by default
    strides      rows and columns from one window to the next; None for pool_size
    padding      "valid": windows lie inside, P = (H - size) // stride + 1, and Q likewise;
                 "same": P = ⌈H / stride⌉, the padding never wins
    data_format  None or "channels_last"
    algorithm    name of the algorithm of the op `maxpool2d`; None for an automatic choice

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range,
    `ShapeError` for inputs without four axes or smaller than a window.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(16).reshape(1, 4, 4, 1)
    >>> layers.MaxPooling2D(2)(x)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    >>> layers.MaxPooling2D((3, 2), strides=1)(x).shape
    (1, 2, 3, 1)
    """

    rank = 2


class MaxPooling3D(_MaxPooling):
    """Take the largest value of each window of voxels: (N, D, H, W, C) → (N, O, P, Q, C).

    pool_size    planes, rows and columns of a window: one number for all, or three; 2 by default
    strides      planes, rows and columns from one window to the next; None for pool_size
    padding      "valid": windows lie inside, O = (D - size) // stride + 1, and P, Q likewise;
                 "same": O = ⌈D / stride⌉, the padding never wins
    data_format  None or "channels_last"
    algorithm    name of the algorithm of the op `maxpool2d`; None for an automatic choice

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range,
    `ShapeError` for inputs without five axes or smaller than a window.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(8).reshape(1, 2, 2, 2, 1)
    >>> layers.MaxPooling3D(2)(x).ravel().tolist()
    [7.0]
    """

    rank = 3


class AveragePooling1D(_AveragePooling):
    """Take the mean of each window of steps: (N, W, C) → (N, Q, C).

    pool_size    steps of a window
    strides      steps from one window to the next; None for pool_size
    padding      "valid": windows lie inside, Q = (W - pool_size) // strides + 1;
                 "same": Q = ⌈W / strides⌉, the padding is not counted
    data_format  None or "channels_last"
    algorithm    name of the algorithm of the op `avgpool2d`; None for an automatic choice

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range,
    `ShapeError` for inputs without three axes or smaller than a window.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(6).reshape(1, 6, 1)
    >>> layers.AveragePooling1D(2)(x).ravel().tolist()
    [0.5, 2.5, 4.5]
    >>> layers.AveragePooling1D(4, padding="same")(x).ravel().tolist()
    [1.0, 4.0]
    """

    rank = 1


class AveragePooling2D(_AveragePooling):
    """Take the mean of each window of pixels: (N, H, W, C) → (N, P, Q, C).

    pool_size    rows and columns of a window: one number for both, or a pair
    strides      rows and columns from one window to the next; None for pool_size
    padding      "valid": windows lie inside, P = (H - size) // stride + 1, and Q likewise;
                 "same": P = ⌈H / stride⌉, the padding is not counted
    data_format  None or "channels_last"
    algorithm    name of the algorithm of the op `avgpool2d`; None for an automatic choice

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range,
    `ShapeError` for inputs without four axes or smaller than a window.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(16).reshape(1, 4, 4, 1)
    >>> layers.AveragePooling2D(2)(x)[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    >>> layers.AveragePooling2D((3, 2), strides=1)(x).shape
    (1, 2, 3, 1)
    """

    rank = 2


class AveragePooling3D(_AveragePooling):
    """Take the mean of each window of voxels: (N, D, H, W, C) → (N, O, P, Q, C).

    pool_size    planes, rows and columns of a window: one number for all, or three
    strides      planes, rows and columns from one window to the next; None for pool_size
    padding      "valid": windows lie inside, O = (D - size) // stride + 1, and P, Q likewise;
                 "same": O = ⌈D / stride⌉, the padding is not counted
    data_format  None or "channels_last"
    algorithm    name of the algorithm of the op `avgpool2d`; None for an automatic choice

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range,
    `ShapeError` for inputs without five axes or smaller than a window.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(8).reshape(1, 2, 2, 2, 1)
    >>> layers.AveragePooling3D(2)(x).ravel().tolist()
    [3.5]
    """

    rank = 3


class GlobalPooling(Layer, abstract=True):
    """One value per channel: (batch, …, channels) → (batch, channels)."""

    rank: ClassVar[int]
    pool: ClassVar[Any]
    """A function of x (batch, positions, channels) that returns (y, gradient), as in `Pooling`."""

    def __init__(self, data_format: Any = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels_last(type(self).__name__, data_format)
        self.keepdims = keepdims
        self.ndim = self.rank + 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, channels), or (batch, 1 …, channels)."""
        ones = (1,) * self.rank if self.keepdims else ()
        return (input_shape[0], *ones, input_shape[-1])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        shape = x.shape
        n, c = shape[0], shape[-1]
        y, gradient = self.pool(x.reshape(n, -1, c))

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return gradient(dy.reshape(n, c)).reshape(shape) if need_dx else None

        return y.reshape(self.compute_output_shape(shape)), backward

    def flops(self, input_shape: Shape) -> int:
        """One comparison or addition for each value."""
        return math.prod(input_shape[1:])


class _GlobalMaxPooling(GlobalPooling, abstract=True):
    pool = staticmethod(_global_maximum)


class _GlobalAveragePooling(GlobalPooling, abstract=True):
    pool = staticmethod(_global_mean)


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """Take the largest value of each channel over all steps: (N, W, C) → (N, C).

    data_format  None or "channels_last"
    keepdims     whether the result keeps its axes: (N, 1, C)

    Also takes the arguments of `Layer`. Raises `ShapeError` for inputs without three axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(6).reshape(1, 3, 2)
    >>> layers.GlobalMaxPooling1D()(x).tolist()
    [[4.0, 5.0]]
    """

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """Take the largest value of each channel over all pixels: (N, H, W, C) → (N, C).

    data_format  None or "channels_last"
    keepdims     whether the result keeps its axes: (N, 1, 1, C)

    Also takes the arguments of `Layer`. Raises `ShapeError` for inputs without four axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(8).reshape(1, 2, 2, 2)
    >>> layers.GlobalMaxPooling2D()(x).tolist()
    [[6.0, 7.0]]
    >>> layers.GlobalMaxPooling2D(keepdims=True)(x).shape
    (1, 1, 1, 2)
    """

    rank = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """Take the largest value of each channel over all voxels: (N, D, H, W, C) → (N, C).

    data_format  None or "channels_last"
    keepdims     whether the result keeps its axes: (N, 1, 1, 1, C)

    Also takes the arguments of `Layer`. Raises `ShapeError` for inputs without five axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(16).reshape(1, 2, 2, 2, 2)
    >>> layers.GlobalMaxPooling3D()(x).tolist()
    [[14.0, 15.0]]
    """

    rank = 3


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """Take the mean of each channel over all steps: (N, W, C) → (N, C).

    data_format  None or "channels_last"
    keepdims     whether the result keeps its axes: (N, 1, C)

    Also takes the arguments of `Layer`. Raises `ShapeError` for inputs without three axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(6).reshape(1, 3, 2)
    >>> layers.GlobalAveragePooling1D()(x).tolist()
    [[2.0, 3.0]]
    """

    rank = 1


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """Take the mean of each channel over all pixels: (N, H, W, C) → (N, C).

    data_format  None or "channels_last"
    keepdims     whether the result keeps its axes: (N, 1, 1, C)

    Also takes the arguments of `Layer`. Raises `ShapeError` for inputs without four axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(8).reshape(1, 2, 2, 2)
    >>> layers.GlobalAveragePooling2D()(x).tolist()
    [[3.0, 4.0]]
    >>> layers.GlobalAveragePooling2D(keepdims=True)(x).shape
    (1, 1, 1, 2)
    """

    rank = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """Take the mean of each channel over all voxels: (N, D, H, W, C) → (N, C).

    data_format  None or "channels_last"
    keepdims     whether the result keeps its axes: (N, 1, 1, 1, C)

    Also takes the arguments of `Layer`. Raises `ShapeError` for inputs without five axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(16).reshape(1, 2, 2, 2, 2)
    >>> layers.GlobalAveragePooling3D()(x).tolist()
    [[7.0, 8.0]]
    """

    rank = 3
