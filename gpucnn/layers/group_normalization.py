"""Normalisation of each input alone: over its last axes, or over groups of its channels."""

from __future__ import annotations

import math
from typing import Annotated, Any

from ..arguments import Bounds, NotNegative
from ..errors import ArgumentError, ShapeError
from ..ops.bias import bias_grad
from ..ops.groupnorm import groupnorm, groupnorm_grad, groupnorm_grad_gamma
from .layer import Backward, Layer, Shape, Weight


class _Normalization(Layer, abstract=True):
    """Normalises what `_shape` makes of x: (N, P, C) in groups."""

    def __init__(
        self,
        epsilon: NotNegative,
        center: bool,
        scale: bool,
        beta: tuple[Any, Any, Any],
        gamma: tuple[Any, Any, Any],
        /,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.epsilon, self.center, self.scale = float(epsilon), center, scale
        self.beta_initializer, self.beta_regularizer, self.beta_constraint = beta
        self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint = gamma
        self.check_arguments_of_weights("beta", "gamma")
        self.gamma: Weight | None = None
        self.beta: Weight | None = None

    def _parts(self, shape: Shape) -> tuple[int, int, int]:
        """(positions, channels, groups) under which an input is normalised."""
        raise NotImplementedError

    def _weight_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """The shape of gamma and beta."""
        raise NotImplementedError

    def build(self, input_shape: Shape) -> None:
        """Create gamma and beta."""
        shape = self._weight_shape(input_shape)
        if self.scale:
            self.gamma = self.add_weight_by_name("gamma", shape)
        if self.center:
            self.beta = self.add_weight_by_name("beta", shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of x."""
        self._parts(input_shape)
        return input_shape

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward)."""
        shape = x.shape
        positions, channels, groups = self._parts(shape)
        params: dict[str, Any] = {"groups": groups, "epsilon": self.epsilon}
        parts = x.reshape(-1, positions, channels)
        gamma = None if self.gamma is None else self.gamma.value.reshape(-1)
        beta = None if self.beta is None else self.beta.value.reshape(-1)
        y, mean, variance = groupnorm(parts, gamma, beta, **params)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dy = dy.reshape(parts.shape)
            if self.gamma is not None:
                groupnorm_grad_gamma(dy, parts, mean, variance, **params, out=self.gamma.gradient.reshape(-1))
            if self.beta is not None:
                bias_grad(dy, out=self.beta.gradient.reshape(-1))
            return groupnorm_grad(dy, parts, gamma, mean, variance, **params).reshape(shape) if need_dx else None

        return y.reshape(shape), backward

    def flops(self, input_shape: Shape) -> int:
        """Mean, variance and result: six for each value."""
        return 6 * math.prod(input_shape[1:])


class LayerNormalization(_Normalization):
    """Normalise each input over its last axes: y = gamma · (x - mean) / √(variance + epsilon) + beta.

    axis            the axes of mean and variance: -1 for the last, or the last ones in a list, such as
                    [1, 2, 3] for all of an image
    epsilon         added to the variance, 0 or more; keeps the division finite
    center, scale   whether there are beta and gamma
    *_initializer   start values of beta and gamma
    *_regularizer   penalties on beta and gamma that are added to the loss, such as "l2"
    *_constraint    bounds for beta and gamma after each update, such as "non_neg"

    Training and inference compute the same, and batches of one are fine. Weights: gamma, beta, each
    with the extents of these axes. Also takes the arguments of `Layer`. Raises `ArgumentError` for
    axes that are not the last ones. Source: Ba, Kiros, Hinton, arXiv:1607.06450. A model of sequences:

    >>> import numpy as np
    >>> from gpucnn import Input, Sequential, layers
    >>> layers.LayerNormalization(epsilon=0)(np.array([[1, 3], [10, 50]])).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    >>> model = Sequential([
    ...     Input((50, 2)),
    ...     layers.Conv1D(8, 5, padding="same"), layers.LayerNormalization(), layers.ReLU(),
    ...     layers.Residual([layers.Conv1D(8, 5, padding="same"), layers.LayerNormalization()]),
    ...     layers.GlobalAveragePooling1D(), layers.Dense(3, activation="softmax"),
    ... ])
    >>> model.count_params()
    475
    """

    def __init__(
        self,
        axis: Any = -1,
        epsilon: NotNegative = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        beta = beta_initializer, beta_regularizer, beta_constraint
        gamma = gamma_initializer, gamma_regularizer, gamma_constraint
        super().__init__(epsilon, center, scale, beta, gamma, **kwargs)
        axes = axis if isinstance(axis, (tuple, list)) else (axis,)
        if not axes or not all(type(number) is int for number in axes):
            raise ArgumentError(f"LayerNormalization(axis={axis!r}): give the number of an axis, or a list of them")
        self.axis = tuple(axes)

    def _axes(self, shape: Shape) -> int:
        """How many of the last axes are normalised."""
        axes = sorted(axis % len(shape) if -len(shape) <= axis < len(shape) else 0 for axis in self.axis)
        if axes != list(range(len(shape) - len(axes), len(shape))) or 0 in axes:
            raise ArgumentError(
                f"{self.name}: LayerNormalization(axis={self.axis}) of inputs {shape}: give the last axes, without the "
                "batch; put Permute before and after it for others"
            )
        return len(axes)

    def _parts(self, shape: Shape) -> tuple[int, int, int]:
        return 1, math.prod(shape[len(shape) - self._axes(shape) :]), 1

    def _weight_shape(self, input_shape: Shape) -> tuple[int, ...]:
        return tuple(input_shape[len(input_shape) - self._axes(input_shape) :])


class GroupNormalization(_Normalization):
    """Normalise groups of channels of each input: y = gamma · (x - mean) / √(variance + epsilon) + beta.

    (N, …, C) → (N, …, C); mean and variance are those of a group of C / groups channels at all
    positions of an input.

    groups          number of groups; -1 for one for each channel (instance normalisation), 1 for all
    axis            -1 or the number of the last axis
    epsilon         added to the variance, 0 or more; keeps the division finite
    center, scale   whether there are beta and gamma
    *_initializer   start values of beta and gamma
    *_regularizer   penalties on beta and gamma that are added to the loss, such as "l2"
    *_constraint    bounds for beta and gamma after each update, such as "non_neg"

    Training and inference compute the same, and batches of one are fine. Weights: gamma, beta, each
    (C,). Also takes the arguments of `Layer`. Raises `ArgumentError` for another axis, `ShapeError` if
    the channels cannot be split into groups. Source: Wu, He, ECCV 2018.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layers.GroupNormalization(2, epsilon=0)(np.array([[1, 3, 10, 50]])).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    min_ndim = 2

    def __init__(
        self,
        groups: Annotated[int, Bounds(-1, 2**31 - 1)] = 32,
        axis: int = -1,
        epsilon: NotNegative = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        beta = beta_initializer, beta_regularizer, beta_constraint
        gamma = gamma_initializer, gamma_regularizer, gamma_constraint
        super().__init__(epsilon, center, scale, beta, gamma, **kwargs)
        if groups == 0:
            raise ArgumentError(f"GroupNormalization(groups={groups}): give a number of groups, or -1 for each channel")
        self.groups, self.axis = int(groups), axis

    def _parts(self, shape: Shape) -> tuple[int, int, int]:
        if self.axis not in (-1, len(shape) - 1):
            raise ArgumentError(
                f"{self.name}: GroupNormalization(axis={self.axis!r}) of inputs {shape}: gpucnn keeps channels last; "
                "leave axis out"
            )
        groups = shape[-1] if self.groups == -1 else self.groups
        if shape[-1] % groups:
            raise ShapeError(f"{self.name}: {shape[-1]} channels cannot be split into groups={groups}: {shape}")
        return math.prod(shape[1:-1]), shape[-1], groups

    def _weight_shape(self, input_shape: Shape) -> tuple[int, ...]:
        return tuple(input_shape[-1:])
