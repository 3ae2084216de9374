"""The parametric rectifier."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from ..arguments import is_count
from ..errors import ArgumentError
from ..ops.prelu import prelu, prelu_grad, prelu_grad_alpha
from ..ops.upsampling import repeat, repeat_grad
from .layer import Backward, Layer, Shape


class PReLU(Layer):
    """Rectified linear unit with a learned slope: x above 0, alpha · x up to it, with the shape of x.

    alpha_initializer  start values of alpha
    alpha_regularizer  penalty on alpha that is added to the loss, such as "l2"
    alpha_constraint   bounds for alpha after each update, such as "non_neg"
    shared_axes        axes that share a slope, counted from 1 (0 is the batch), such as [1, 2] for one
                       slope for each channel of images; None for a slope for each value of an input

    Weights: alpha, with the shape of one input and an extent of 1 for shared axes. Also takes the
    arguments of `Layer`. Raises `ArgumentError` for axes that the input does not have. Source: He,
    Zhang, Ren, Sun, ICCV 2015, section 2.1.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer = layers.PReLU(alpha_initializer="ones", shared_axes=[1, 2])
    >>> layer(np.array([-2.0, 3.0]).reshape(1, 1, 1, 2)).ravel().tolist()
    [-2.0, 3.0]
    >>> layer.get_weights()[0].shape
    (1, 1, 2)
    """

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer, self.alpha_regularizer = alpha_initializer, alpha_regularizer
        self.alpha_constraint = alpha_constraint
        self.check_arguments_of_weights("alpha")
        axes = shared_axes if isinstance(shared_axes, (tuple, list)) else [] if shared_axes is None else [shared_axes]
        if not all(map(is_count, axes)) or len(set(axes)) < len(axes):
            raise ArgumentError(f"PReLU(shared_axes={shared_axes!r}): give axes counted from 1, such as [1, 2]")
        self.shared_axes = tuple(map(int, axes))

    def build(self, input_shape: Shape) -> None:
        """Create alpha."""
        self.alpha = self.add_weight_by_name("alpha", self._alpha_shape(input_shape))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of x."""
        if any(axis >= len(input_shape) for axis in self.shared_axes):
            raise ArgumentError(f"{self.name}: shared_axes={self.shared_axes} of inputs {input_shape}")
        return input_shape

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        shape, grown = x.shape, self._extents(x.shape)
        alpha = self.alpha.value.reshape(-1)
        if grown is not None:
            alpha = repeat(alpha.reshape(grown[0]), size=grown[1]).reshape(-1)
        rows = x.reshape(-1, alpha.shape[0])

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dy = dy.reshape(rows.shape)
            gradient = self.alpha.gradient.reshape(-1)
            if grown is None:
                prelu_grad_alpha(dy, rows, out=gradient)
            else:
                each, size = prelu_grad_alpha(dy, rows), grown[1]
                places = tuple(extent * n for extent, n in zip(grown[0], (1, *size, 1), strict=True))
                repeat_grad(each.reshape(places), size=size, out=gradient.reshape(grown[0]))
            return prelu_grad(dy, rows, alpha).reshape(shape) if need_dx else None

        return prelu(rows, alpha).reshape(shape), backward

    def flops(self, input_shape: Shape) -> int:
        """One for each value."""
        return math.prod(input_shape[1:])

    def _alpha_shape(self, input_shape: Shape) -> tuple[int, ...]:
        return tuple(1 if axis in self.shared_axes else extent for axis, extent in enumerate(input_shape) if axis)

    def _extents(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Alpha as five axes, and how often the three in the middle are repeated to make rows of which each
        value has a slope; None if alpha is such a row already, since the axes that share come first."""
        axes = list(range(1, len(shape)))
        while axes and axes[0] in self.shared_axes:
            del axes[0]
        runs = [
            (shared, math.prod(shape[axis] for axis in run))
            for shared, run in groupby(axes, lambda axis: axis in self.shared_axes)
        ]
        if len(runs) <= 1:
            return None
        if len(runs) > 5:
            raise ArgumentError(f"{self.name}: shared_axes={self.shared_axes} alternate too often with the others")
        extents = [*(1 if shared else extent for shared, extent in runs), 1, 1, 1]
        size = [*(extent if shared else 1 for shared, extent in runs), 1, 1, 1]
        return tuple(extents[:5]), tuple(size[1:4])
