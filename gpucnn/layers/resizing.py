"""Images brought to another size: cut out of the middle, or interpolated."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..arguments import Count, channels_last
from ..devices import choose, storage
from ..errors import ArgumentError, ShapeError
from ..ops.affine import PIXEL, affine
from ..ops.reshaping import crop, pad
from .layer import Backward, Layer, Shape


class CenterCrop(Layer):
    """Cut the middle out of each image: (N, H, W, C) → (N, height, width, C).

    height, width  sides of the part, at most those of the images
    data_format    None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ShapeError` for smaller images.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.CenterCrop(3, 1)(np.arange(5).reshape(1, 5, 1, 1)).ravel().tolist()
    [1.0, 2.0, 3.0]
    """

    ndim = 4

    def __init__(self, height: Count, width: Count, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width = height, width
        channels_last("CenterCrop", data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(None, height, width, C)."""
        return cut_shape(self.name, input_shape, self.height, self.width)

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        return middle(x, self.height, self.width)


class Resizing(Layer):
    """Bring images to another size by bilinear interpolation: (N, H, W, C) → (N, height, width, C).

    height, width  the new sides
    interpolation  "bilinear"
    crop_to_aspect_ratio, pad_to_aspect_ratio, antialias
                   False; Keras has them, gpucnn lacks them
    fill_mode, fill_value
                   of the padding that gpucnn lacks: without effect
    data_format    None or "channels_last"

    When an image shrinks to less than half, pixels between the new ones are not read. Also takes
    the arguments of `Layer`. Raises `ArgumentError` for what it lacks.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.Resizing(4, 1)(np.array([0.0, 4.0]).reshape(1, 2, 1, 1)).ravel().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """

    ndim = 4

    def __init__(
        self,
        height: Count,
        width: Count,
        interpolation: Literal["bilinear"] = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: Literal["constant"] = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.height, self.width = height, width
        for name, value in {
            "crop_to_aspect_ratio": crop_to_aspect_ratio,
            "pad_to_aspect_ratio": pad_to_aspect_ratio,
            "antialias": antialias,
        }.items():
            if value is not False:
                raise ArgumentError(f"Resizing({name}={value!r}) is not in gpucnn: leave it out")
        self.interpolation, self.fill_mode, self.fill_value = interpolation, fill_mode, fill_value
        self.crop_to_aspect_ratio = self.pad_to_aspect_ratio = self.antialias = False
        channels_last("Resizing", data_format)
        self._maps: dict[tuple[Any, ...], Any] = {}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(None, height, width, C)."""
        return (input_shape[0], self.height, self.width, input_shape[3])

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        size = (self.height, self.width)
        y = affine(x, self._maps_for(x), size=size, fill="nearest", value=0.0)
        return y, self._no_gradient

    def flops(self, input_shape: Shape) -> int:
        """Four products, their weights and sums for each value."""
        return 11 * self.height * self.width * int(input_shape[3])

    def _maps_for(self, x: Any) -> Any:
        """The same map for each image, kept on the device for the next batch."""
        key = (choose.current().name, *x.shape)
        if key not in self._maps:
            self._maps[key] = storage.put(np.tile(scaling(x.shape[1:3], (self.height, self.width)), (x.shape[0], 1)))
        return self._maps[key]

    def _no_gradient(self, dy: Any, need_dx: bool = True) -> None:
        if need_dx:
            raise ArgumentError(f"{self.name} (Resizing) has no gradient: put it before the first layer with weights")


def scaling(shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The map [a, 0, c, 0, e, f] of `ops.affine` that brings images of `shape` to `size`."""
    rows, columns = (round(old * PIXEL / new) for old, new in zip(shape, size, strict=True))
    return np.array([rows, 0, (rows - PIXEL) // 2, 0, columns, (columns - PIXEL) // 2], np.int32)


def cut_shape(owner: str, input_shape: Shape, height: Count, width: int) -> Shape:
    """The shape of a part of images. Raises `ShapeError` if they are smaller."""
    if input_shape[1] < height or input_shape[2] < width:
        raise ShapeError(f"{owner}: images of {input_shape[1:3]} are smaller than the part of {(height, width)}")
    return (input_shape[0], height, width, input_shape[3])


def middle(x: Any, height: Count, width: int) -> tuple[Any, Backward]:
    """(the middle of each image, backward)."""
    edges = [
        ((extent - side) // 2, (extent - side + 1) // 2)
        for extent, side in zip(x.shape[1:3], (height, width), strict=True)
    ]
    padding = ((0, 0), *edges, (0, 0))
    return crop(x, padding=padding), lambda dy, need_dx=True: pad(dy, padding=padding) if need_dx else None
