"""Data augmentation: layers that change the images at random in training and pass them on in inference.

The random numbers depend on the seed, the layer's place in the model and the step, so that each
step sees other images, and a resumed run and every device the same ones.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from .. import random
from ..arguments import Bounds, Count, Fraction, Seed, channels_last, wrong
from ..errors import ArgumentError
from ..ops.affine import Fill, affine, random_affine
from ..ops.contrast import random_contrast
from ..ops.globalpool import globalavgpool
from ..ops.window import Sliding
from .layer import Backward, Layer, Shape, behind, drawn_before
from .resizing import cut_shape, cut_windows, middle

Range = tuple[float, float]

Part = Annotated[float, Bounds(-1, 1)]
Limits = Fraction | tuple[Part, Part]
"""The largest change to both sides, or the limits of the change."""

Flip = Literal["horizontal", "vertical", "horizontal_and_vertical"]

_NOTHING: Range = (0.0, 0.0)


class Augmentation(Layer, abstract=True):
    """A layer of images (N, H, W, C) with a seed."""

    ndim = 4

    def __init__(self, seed: Seed | None, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels_last(type(self).__name__, data_format)
        self.seed = random.global_seed() if seed is None else int(seed)

    def changed(self, x: Any, step: Any) -> Any:
        """The images of a training step."""
        raise NotImplementedError

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward); x itself in inference."""
        if not training:
            return x, lambda dy, need_dx=True: dy if need_dx else None
        return self.changed(x, step), self._no_gradient

    def _no_gradient(self, dy: Any, need_dx: bool = True) -> None:
        if need_dx:
            raise ArgumentError(
                f"{self.name} ({type(self).__name__}) has no gradient: put it before the first layer with weights"
            )


class _Mapped(Augmentation, abstract=True):
    """A layer that looks at each image through a random affine map."""

    def __init__(
        self,
        seed: Seed | None,
        fill_mode: Fill = "reflect",
        fill_value: float = 0.0,
        data_format: Any = None,
        interpolation: Literal["bilinear"] = "bilinear",
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.fill_mode, self.fill_value, self.interpolation = fill_mode, float(fill_value), interpolation

    def limits(self) -> dict[str, Any]:
        """The parameters of `random_affine` in which the layer differs from the identity."""
        raise NotImplementedError

    def changed(self, x: Any, step: Any) -> Any:
        """The images, each through its map."""
        parameters = {
            "shape": x.shape[1:3],
            "size": x.shape[1:3],
            "rotation": _NOTHING,
            "translation": (_NOTHING, _NOTHING),
            "zoom": (_NOTHING,),
            "flip": (False, False),
        } | self.limits()
        count = self.first_sample + x.shape[0]
        maps = random_affine(step, count=count, **parameters, seed=self.seed, stream=self.stream)
        return affine(x, maps[self.first_sample :], size=parameters["size"], fill=self.fill_mode, value=self.fill_value)

    def flops(self, input_shape: Shape) -> int:
        """None in inference."""
        return 0


class RandomFlip(_Mapped):
    """Mirror half of the images in training.

    mode  "horizontal" (left to right), "vertical", or "horizontal_and_vertical"
    seed  0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created

    Also takes the arguments of `Layer`. Raises `ArgumentError` for another mode. Not for digits and
    letters, which mean something else when mirrored.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(3.0).reshape(1, 1, 3, 1)
    >>> layer = layers.RandomFlip("horizontal")
    >>> sorted({tuple(layer(x, training=True).ravel().tolist()) for _ in range(20)})
    [(0.0, 1.0, 2.0), (2.0, 1.0, 0.0)]
    """

    def __init__(self, mode: Flip = "horizontal_and_vertical", seed: Seed | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.mode = mode

    def limits(self) -> dict[str, Any]:
        """Which sides are mirrored."""
        return {"flip": ("vertical" in self.mode, "horizontal" in self.mode)}


class RandomRotation(_Mapped):
    """Turn each image by a random angle in training.

    factor         the largest angle to both sides as a fraction of a whole turn, or the limits
                   (low, high), counter-clockwise: 0.05 for up to 18 degrees
    fill_mode      what lies outside the image: "reflect", "constant", "nearest" or "wrap"
    interpolation  "bilinear"
    seed           0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created
    fill_value     of the pixels outside with "constant"
    data_format    None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.array([[1, 2], [3, 4]]).reshape(1, 2, 2, 1)
    >>> layers.RandomRotation((0.25, 0.25))(x, training=True).reshape(2, 2).tolist()
    [[2.0, 4.0], [1.0, 3.0]]
    """

    def __init__(
        self,
        factor: Limits,
        fill_mode: Fill = "reflect",
        interpolation: Literal["bilinear"] = "bilinear",
        seed: Seed | None = None,
        fill_value: float = 0.0,
        data_format: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, fill_mode, fill_value, data_format, interpolation=interpolation, **kwargs)
        self.factor = _limits("RandomRotation", "factor", factor)

    def limits(self) -> dict[str, Any]:
        """The angle."""
        return {"rotation": self.factor}


class RandomTranslation(_Mapped):
    """Move each image by a random distance in training.

    height_factor  the largest shift up and down as a fraction of the height, or the limits
                   (low, high), positive downwards
    width_factor   the same to the sides, as a fraction of the width, positive to the right
    fill_mode      what lies outside the image: "reflect", "constant", "nearest" or "wrap"
    interpolation  "bilinear"
    seed           0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created
    fill_value     of the pixels outside with "constant"
    data_format    None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(4).reshape(1, 4, 1, 1)
    >>> layers.RandomTranslation((0.25, 0.25), 0, "constant")(x, training=True).ravel().tolist()
    [0.0, 0.0, 1.0, 2.0]
    """

    def __init__(
        self,
        height_factor: Limits,
        width_factor: Limits,
        fill_mode: Fill = "reflect",
        interpolation: Literal["bilinear"] = "bilinear",
        seed: Seed | None = None,
        fill_value: float = 0.0,
        data_format: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, fill_mode, fill_value, data_format, interpolation=interpolation, **kwargs)
        self.height_factor = _limits("RandomTranslation", "height_factor", height_factor)
        self.width_factor = _limits("RandomTranslation", "width_factor", width_factor)

    def limits(self) -> dict[str, Any]:
        """The shifts."""
        return {"translation": (self.height_factor, self.width_factor)}


class RandomZoom(_Mapped):
    """Enlarge or shrink each image by a random factor in training.

    height_factor  the largest change of the height as a fraction, or the limits (low, high):
                   positive to show more of the surroundings, negative to show a smaller part
    width_factor   the same for the width; None for that of the height, which keeps the proportions
    fill_mode      what lies outside the image: "reflect", "constant", "nearest" or "wrap"
    interpolation  "bilinear"
    seed           0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created
    fill_value     of the pixels outside with "constant"
    data_format    None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(4).reshape(1, 4, 1, 1)
    >>> layers.RandomZoom((-0.5, -0.5), 0)(x, training=True).ravel().tolist()
    [0.75, 1.25, 1.75, 2.25]
    """

    def __init__(
        self,
        height_factor: Limits,
        width_factor: Limits | None = None,
        fill_mode: Fill = "reflect",
        interpolation: Literal["bilinear"] = "bilinear",
        seed: Seed | None = None,
        fill_value: float = 0.0,
        data_format: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, fill_mode, fill_value, data_format, interpolation=interpolation, **kwargs)
        self.height_factor = _limits("RandomZoom", "height_factor", height_factor)
        self.width_factor = None if width_factor is None else _limits("RandomZoom", "width_factor", width_factor)

    def limits(self) -> dict[str, Any]:
        """The zooms."""
        return {"zoom": (self.height_factor,) if self.width_factor is None else (self.height_factor, self.width_factor)}


class RandomAffine(_Mapped):
    """Turn, move, zoom and mirror each image by random amounts in training, in one interpolation.

    It blurs less and takes less time than RandomFlip, RandomRotation, RandomTranslation and
    RandomZoom in a row. Keras has no such layer.

    rotation_factor              as the factor of RandomRotation
    height_factor, width_factor  as those of RandomTranslation
    zoom_factor                  as the height_factor of RandomZoom, for both directions
    flip_mode                    as the mode of RandomFlip; None to mirror nothing
    fill_mode, seed, fill_value, data_format
                                 as for RandomRotation

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.arange(4).reshape(1, 4, 1, 1)
    >>> layer = layers.RandomAffine(height_factor=(0.25, 0.25), fill_mode="nearest")
    >>> layer(x, training=True).ravel().tolist()
    [0.0, 0.0, 1.0, 2.0]
    """

    def __init__(
        self,
        rotation_factor: Limits = 0.0,
        height_factor: Limits = 0.0,
        width_factor: Limits = 0.0,
        zoom_factor: Limits = 0.0,
        flip_mode: Flip | None = None,
        fill_mode: Fill = "reflect",
        seed: Seed | None = None,
        fill_value: float = 0.0,
        data_format: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, fill_mode, fill_value, data_format, **kwargs)
        self.rotation_factor = _limits("RandomAffine", "rotation_factor", rotation_factor)
        self.height_factor = _limits("RandomAffine", "height_factor", height_factor)
        self.width_factor = _limits("RandomAffine", "width_factor", width_factor)
        self.zoom_factor = _limits("RandomAffine", "zoom_factor", zoom_factor)
        self.flip_mode = flip_mode

    def limits(self) -> dict[str, Any]:
        """All of them."""
        mode = self.flip_mode or ""
        return {
            "rotation": self.rotation_factor,
            "translation": (self.height_factor, self.width_factor),
            "zoom": (self.zoom_factor,),
            "flip": ("vertical" in mode, "horizontal" in mode),
        }


class RandomCrop(_Mapped):
    """Cut a part out of each image, at random in training and from the middle in inference.

    height, width  sides of the part, at most those of the images
    seed           0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created
    data_format    None or "channels_last"

    Also takes the arguments of `Layer`. Raises `ShapeError` for smaller images.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x, layer = np.arange(5).reshape(1, 5, 1, 1), layers.RandomCrop(3, 1)
    >>> layer(x).ravel().tolist()
    [1.0, 2.0, 3.0]
    >>> sorted({float(layer(x, training=True)[0, 0, 0, 0]) for _ in range(30)})
    [0.0, 1.0, 2.0]
    """

    def __init__(
        self, height: Count, width: Count, seed: Seed | None = None, data_format: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, data_format=data_format, **kwargs)
        self.height, self.width = height, width

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(None, height, width, C)."""
        return cut_shape(self.name, input_shape, self.height, self.width)

    def limits(self) -> dict[str, Any]:
        """The sides of the part."""
        return {"size": (self.height, self.width)}

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        if training:
            return super().forward(x, step, training)
        return middle(x, self.height, self.width)

    def sliding(self, input_shape: Shape) -> tuple[Sliding, ...]:
        """A window of one cell along what is left."""
        return cut_windows(input_shape, self.height, self.width)


class RandomContrast(Augmentation):
    """Raise or lower the contrast of each image by a random factor in training.

    factor       the largest change as a fraction, or a pair (lower, upper): the factor lies between
                 1 - lower and 1 + upper
    value_range  the range of the images' values, to which the results are clipped
    seed         0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created

    Also takes the arguments of `Layer`. Raises `ArgumentError` for arguments out of range.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> x = np.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    >>> layers.RandomContrast((1.0, -1.0))(x, training=True).ravel().tolist()
    [2.0, 2.0]
    """

    def __init__(
        self,
        factor: Limits,
        value_range: Range = (0, 255),
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        lower, upper = map(float, factor) if isinstance(factor, (tuple, list)) else (float(factor),) * 2
        if 1 - lower > 1 + upper:
            raise wrong("RandomContrast", "factor", factor, "a pair (lower, upper) with 1 - lower ≤ 1 + upper")
        low, high = map(float, value_range)
        if low >= high:
            raise wrong("RandomContrast", "value_range", value_range, "the smaller value first")
        self.factor = (lower, upper)
        self.value_range = (low, high)

    def changed(self, x: Any, step: Any) -> Any:
        """The images, each with its factor."""
        factor = (1.0 - self.factor[0], 1.0 + self.factor[1])
        mean = globalavgpool(x.reshape(x.shape[0], -1, x.shape[3]))
        how: dict[str, Any] = {"factor": factor, "limits": self.value_range, "seed": self.seed, "stream": self.stream}
        (spare, counter), means = drawn_before(self.first_sample, 1), mean.reshape(x.shape[0], x.shape[3])
        return random_contrast(behind(x, spare), behind(means, spare), step, **how, counter=counter)[spare:]


def _limits(owner: str, name: str, value: Limits) -> Range:
    """The limits of a change, from both or from one number for both sides."""
    low, high = map(float, value) if isinstance(value, (tuple, list)) else (-float(value), float(value))
    if low > high:
        raise wrong(owner, name, value, "the lower limit first")
    return low, high
