"""Dropout of single values and of whole channels, in training only."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .. import random
from ..dispatch.op import Op
from ..errors import ArgumentError
from ..ops.dropout import dropout, spatial_dropout
from .arguments import check_data_format
from .layer import Backward, Layer, Shape


class Dropout(Layer):
    """Sets a share `rate` of the values to 0 and multiplies the others by 1 / (1 - rate), anew in each step.

    Which go depends on the seed (`seed`, else that of `set_random_seed` when the layer was made), on the layer's place
    in the model, on the step and on the value's place in the batch.
    """

    op: ClassVar[Op] = dropout

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not 0 <= rate <= 1:
            raise ArgumentError(f"{owner}(rate={rate!r}): rate is the share that is dropped, a number of 0 … 1")
        if noise_shape is not None:
            raise ArgumentError(
                f"{owner}(noise_shape={noise_shape!r}) is not in gpucnn: SpatialDropout layers drop whole channels"
            )
        if seed is not None and (not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64):
            raise ArgumentError(f"{owner}(seed={seed!r}): use an integer of 0 … 2**64 - 1, or None")
        self.rate = float(rate)
        self.seed = random.global_seed() if seed is None else int(seed)

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward); x itself in inference."""
        if not training or self.rate == 0:
            return x, lambda dy, need_dx=True: dy if need_dx else None
        shape, op_shape = x.shape, self._op_shape(x.shape)
        params: dict[str, Any] = {"rate": self.rate, "seed": self.seed, "stream": self.stream}

        def dropped(values: Any) -> Any:
            return self.op(values.reshape(op_shape), step, **params).reshape(shape)

        return dropped(x), lambda dy, need_dx=True: dropped(dy) if need_dx else None

    def flops(self, input_shape: Shape) -> int:
        """One for each value."""
        return math.prod(input_shape[1:])

    def _op_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As what the op sees the values."""
        return shape


class _SpatialDropout(Dropout, abstract=True):
    op = spatial_dropout

    def _op_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], -1, shape[-1])


class SpatialDropout1D(_SpatialDropout):
    """Drops whole channels of sequences (batch, steps, channels), in training only."""

    ndim = 3

    def __init__(
        self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Drops whole channels of images (batch, rows, columns, channels), in training only."""

    ndim = 4

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        check_data_format(type(self).__name__, data_format)


class SpatialDropout3D(SpatialDropout2D):
    """Drops whole channels of volumes (batch, planes, rows, columns, channels), in training only."""

    ndim = 5
