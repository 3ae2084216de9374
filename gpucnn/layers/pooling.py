"""Pooling over windows, and over whole sequences, images and volumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ShapeError
from ..ops.globalpool import globalavgpool, globalavgpool_grad, globalmaxpool, globalmaxpool_grad
from ..ops.pool2d import avgpool2d, avgpool2d_grad, maxpool2d, maxpool2d_grad
from ..ops.window import positions, same_padding
from .arguments import check_data_format, extents, padding_name
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
    """Slides a window along `rank` axes: (batch, …, channels) → (batch, fewer …, channels).

    As in Keras 3: `strides` are those of the windows unless given, `padding` is "valid" or "same". `algorithm` chooses
    the kernels by name.
    """

    rank: ClassVar[int]
    pool: ClassVar[Any]
    """A function of images x and a window that returns (y, gradient), gradient(dy) being dx."""

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        *,
        algorithm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        owner = type(self).__name__
        check_data_format(owner, data_format)
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
        """The poolings of images that make up the layer: as what to view the array, and the window.

        A sequence is an image of one row. A volume is pooled over rows and columns first, as images, and then over
        depth, as an image whose columns are all its pixels: the window is separable, and ties go to the same cell.
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
        pool_size: int | tuple[int, ...] = 2,
        strides: int | tuple[int, ...] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class _AveragePooling(Pooling, abstract=True):
    pool = staticmethod(_mean)


class MaxPooling1D(_MaxPooling):
    """The largest value of each window of steps: (batch, steps, C) → (batch, …, C)."""

    rank = 1


class MaxPooling2D(_MaxPooling):
    """The largest value of each window of pixels: (batch, rows, columns, C) → (batch, …, C)."""

    rank = 2


class MaxPooling3D(_MaxPooling):
    """The largest value of each window of voxels: (batch, planes, rows, columns, C) → (batch, …, C)."""

    rank = 3


class AveragePooling1D(_AveragePooling):
    """The mean of each window of steps, padding not counted: (batch, steps, C) → (batch, …, C)."""

    rank = 1


class AveragePooling2D(_AveragePooling):
    """The mean of each window of pixels, padding not counted: (batch, rows, columns, C) → (batch, …, C)."""

    rank = 2


class AveragePooling3D(_AveragePooling):
    """The mean of each window of voxels, padding not counted: (batch, planes, rows, columns, C) → (batch, …, C)."""

    rank = 3


class GlobalPooling(Layer, abstract=True):
    """One value per channel: (batch, …, channels) → (batch, channels), or (batch, 1 …, channels) with `keepdims`."""

    rank: ClassVar[int]
    pool: ClassVar[Any]
    """A function of x (batch, positions, channels) that returns (y, gradient), gradient(dy) being dx."""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_data_format(type(self).__name__, data_format)
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
    """The largest value of each channel over all steps: (batch, steps, C) → (batch, C)."""

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """The largest value of each channel over all pixels: (batch, rows, columns, C) → (batch, C)."""

    rank = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """The largest value of each channel over all voxels: (batch, planes, rows, columns, C) → (batch, C)."""

    rank = 3


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """The mean of each channel over all steps: (batch, steps, C) → (batch, C)."""

    rank = 1


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """The mean of each channel over all pixels: (batch, rows, columns, C) → (batch, C)."""

    rank = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """The mean of each channel over all voxels: (batch, planes, rows, columns, C) → (batch, C)."""

    rank = 3
