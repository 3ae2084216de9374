"""Normalisation of each channel over the batch."""

from __future__ import annotations

import math
from typing import Any

from .. import initializers
from ..arguments import Fraction, NotNegative
from ..errors import ArgumentError
from ..ops.batchnorm import batchnorm, batchnorm_grad, batchnorm_inference, batchnorm_inference_grad, moving_average
from . import synchronized_batchnorm
from .layer import Backward, Layer, Shape, Weight


class BatchNormalization(Layer):
    """Normalise each channel: y = gamma · (x - mean) / √(variance + epsilon) + beta.

    (N, …, C) → (N, …, C). In training, mean and variance are those of the batch, and after the step
    each moving statistic becomes moving · momentum + batch · (1 - momentum). In inference, and when
    `trainable` is False, the moving statistics are used instead. Where several processes train, each
    normalises by the statistics of its part of the batch, and the moving ones follow their mean; if
    `synchronized`, all normalise by those of the whole batch.

    axis            -1 or the number of the last axis
    momentum        0 … 1: how slowly the moving statistics follow the batches
    epsilon         added to the variance, 0 or more; keeps the division finite
    center, scale   whether there are beta and gamma
    *_initializer   start values of beta, gamma, moving_mean and moving_variance
    *_regularizer   penalties on beta and gamma that are added to the loss, such as "l2"
    *_constraint    bounds for beta and gamma after each update, such as "non_neg"
    renorm*         not in gpucnn: leave them at their defaults
    synchronized    whether processes that train together share the statistics of their parts of the
                    batch: two exchanges of (processes · 2 C) values in each step

    Weights: gamma, beta, moving_mean, moving_variance, each (C,). Also takes the arguments of
    `Layer`. Raises `ArgumentError` for arguments out of range and, when the model is built, for
    another axis.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer = layers.BatchNormalization(epsilon=0)
    >>> layer(np.array([[1, 10], [3, 50]]), training=True).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> [weight.name for weight in layer.weights]
    ['gamma', 'beta', 'moving_mean', 'moving_variance']
    """

    min_ndim = 2

    def __init__(
        self,
        axis: int = -1,
        momentum: Fraction = 0.99,
        epsilon: NotNegative = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        renormalisation = {"renorm": renorm, "renorm_clipping": renorm_clipping, "renorm_momentum": renorm_momentum}
        for name, default in (("renorm", False), ("renorm_clipping", None), ("renorm_momentum", 0.99)):
            if renormalisation[name] != default:
                given = f"BatchNormalization({name}={renormalisation[name]!r})"
                raise ArgumentError(f"{given}: batch renormalisation is not in gpucnn; leave it out")
        self.synchronized = synchronized
        self.axis = axis
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale = center, scale
        self.beta_initializer, self.gamma_initializer = beta_initializer, gamma_initializer
        self.moving_mean_initializer = moving_mean_initializer
        self.moving_variance_initializer = moving_variance_initializer
        self.beta_regularizer, self.gamma_regularizer = beta_regularizer, gamma_regularizer
        self.beta_constraint, self.gamma_constraint = beta_constraint, gamma_constraint
        self.check_arguments_of_weights("beta", "gamma")
        initializers.check(moving_mean_initializer)
        initializers.check(moving_variance_initializer)
        self.gamma: Weight | None = None
        self.beta: Weight | None = None
        self.batch_statistics = ()

    def build(self, input_shape: Shape) -> None:
        """Create gamma, beta and the moving statistics."""
        shape = input_shape[-1:]
        if self.scale:
            self.gamma = self.add_weight_by_name("gamma", shape)
        if self.center:
            self.beta = self.add_weight_by_name("beta", shape)
        self.moving_mean = self.add_weight(shape, self.moving_mean_initializer, trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, trainable=False, name="moving_variance"
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of x."""
        if self.axis not in (-1, len(input_shape) - 1):
            raise ArgumentError(
                f"{self.name}: BatchNormalization(axis={self.axis!r}) of inputs {input_shape}: gpucnn keeps "
                "channels last; leave axis out"
            )
        return input_shape

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward); in training, the statistics of the batch are kept for `update`."""
        gamma = None if self.gamma is None else self.gamma.value
        beta = None if self.beta is None else self.beta.value
        epsilon = self.epsilon
        if training and self.trainable and self.synchronized and self.peers is not None:
            return synchronized_batchnorm.forward(self, x, self.gamma, self.beta, epsilon, self.peers)
        if training and self.trainable:
            y, mean, variance = batchnorm(x, gamma, beta, epsilon=epsilon)
            self.batch_statistics, gradient = [mean, variance], batchnorm_grad
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
            y = batchnorm_inference(x, gamma, beta, mean, variance, epsilon=epsilon)
            self.batch_statistics, gradient = (), batchnorm_inference_grad

        def backward(dy: Any, need_dx: bool = True) -> Any:
            dgamma = None if self.gamma is None else self.gamma.gradient
            dbeta = None if self.beta is None else self.beta.gradient
            dx, _, _ = gradient(dy, x, gamma, mean, variance, epsilon=epsilon, out=(None, dgamma, dbeta))
            return dx if need_dx else None

        return y, backward

    def update(self) -> None:
        """Update the moving statistics with those of the last batch."""
        if self.batch_statistics:
            for moving, batch in zip((self.moving_mean, self.moving_variance), self.batch_statistics, strict=True):
                moving_average(moving.value, batch, momentum=self.momentum)
            self.batch_statistics = ()

    def flops(self, input_shape: Shape) -> int:
        """Subtraction, product and sum for each value, as in inference."""
        return 3 * math.prod(input_shape[1:])
