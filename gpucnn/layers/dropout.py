"""Dropout of single values and of whole channels, in training only."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from .. import random
from ..arguments import Fraction, Seed, channels_last
from ..dispatch.op import Op
from ..errors import ArgumentError
from ..ops.dropout import dropout, spatial_dropout
from .layer import Backward, Layer, Shape, behind, drawn_before

Share = Annotated[Fraction, "the share that is dropped"]


class Dropout(Layer):
    """Set random values to 0 in training and multiply the others by 1 / (1 - rate).

    rate         share of the values that is dropped, 0 … 1
    noise_shape  not in gpucnn: use a SpatialDropout layer to drop whole channels
    seed         0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created

    The output has the shape of x; in inference it is x itself. Which values are dropped depends on
    the seed, the layer's place in the model, the step and the value's place in the batch: it
    differs in each step and is the same on every device. Also takes the arguments of `Layer`.
    Raises `ArgumentError` for a rate or a seed out of range.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer, x = layers.Dropout(0.5), np.ones((1, 100))
    >>> np.unique(layer(x, training=True)).tolist()
    [0.0, 2.0]
    >>> np.unique(layer(x)).tolist()
    [1.0]
    """

    op: ClassVar[Op] = dropout

    def __init__(self, rate: Share, noise_shape: Any = None, seed: Seed | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if noise_shape is not None:
            call = f"{type(self).__name__}(noise_shape={noise_shape!r})"
            raise ArgumentError(f"{call} is not in gpucnn: SpatialDropout layers drop whole channels")
        self.rate = float(rate)
        self.seed = random.global_seed() if seed is None else int(seed)

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward); x itself in inference."""
        if not training or self.rate == 0:
            return x, lambda dy, need_dx=True: dy if need_dx else None
        shape, op_shape = x.shape, self._op_shape(x.shape)
        spare, params = self.draws(shape)

        def dropped(values: Any) -> Any:
            return self.op(behind(values.reshape(op_shape), spare), step, **params)[spare:].reshape(shape)

        return dropped(x), lambda dy, need_dx=True: dropped(dy) if need_dx else None

    def draws(self, shape: Shape) -> tuple[int, dict[str, Any]]:
        """Behind how many samples the op takes those of x, and its parameters."""
        spare, counter = drawn_before(self.first_sample, self._words(shape))
        return spare, {"rate": self.rate, "seed": self.seed, "stream": self.stream, "counter": counter}

    def flops(self, input_shape: Shape) -> int:
        """One for each value."""
        return math.prod(input_shape[1:])

    def _op_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape under which the op reads the values."""
        return shape

    def _words(self, shape: tuple[int, ...]) -> int:
        """How many random words a sample takes."""
        return math.prod(shape[1:])


class _SpatialDropout(Dropout, abstract=True):
    op = spatial_dropout

    def _words(self, shape: tuple[int, ...]) -> int:
        return shape[-1]

    def _op_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], -1, shape[-1])


class SpatialDropout1D(_SpatialDropout):
    """Drop whole channels of sequences in training: (N, W, C) → (N, W, C).

    rate  share of the channels that is dropped, 0 … 1; the others are multiplied by 1 / (1 - rate)
    seed  0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created

    All steps of a channel are dropped or kept together. Also takes the arguments of `Layer`. Raises
    `ArgumentError` for a rate or a seed out of range, `ShapeError` for inputs without three axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> y = layers.SpatialDropout1D(0.5)(np.ones((1, 3, 100)), training=True)
    >>> sorted(set(y.sum(axis=1).ravel().tolist()))
    [0.0, 6.0]
    """

    ndim = 3

    def __init__(
        self, rate: Share, seed: Seed | None = None, name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Drop whole channels of images in training: (N, H, W, C) → (N, H, W, C).

    rate         share of the channels that is dropped, 0 … 1; the others are multiplied by
                 1 / (1 - rate)
    data_format  None or "channels_last"
    seed         0 … 2⁶⁴ - 1; None for the seed of `set_random_seed` when the layer is created

    All pixels of a channel are dropped or kept together. Also takes the arguments of `Layer`.
    Raises `ArgumentError` for a rate or a seed out of range, `ShapeError` for inputs without four
    axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> y = layers.SpatialDropout2D(0.5)(np.ones((1, 2, 2, 100)), training=True)
    >>> sorted(set(y.sum(axis=(1, 2)).ravel().tolist()))
    [0.0, 8.0]
    """

    ndim = 4

    def __init__(
        self,
        rate: Share,
        data_format: Any = None,
        seed: Seed | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        channels_last(type(self).__name__, data_format)


class SpatialDropout3D(SpatialDropout2D):
    """Drop whole channels of volumes in training: (N, D, H, W, C) → (N, D, H, W, C).

    Takes the arguments of `SpatialDropout2D` and raises its errors; inputs have five axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> y = layers.SpatialDropout3D(0.5)(np.ones((1, 2, 2, 2, 100)), training=True)
    >>> sorted(set(y.sum(axis=(1, 2, 3)).ravel().tolist()))
    [0.0, 16.0]
    """

    ndim = 5
