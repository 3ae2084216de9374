"""The fully connected layer."""

from __future__ import annotations

import math
from typing import Any

from ..arguments import Count
from ..devices.branches import aside
from ..ops.matmul import matmul
from .kernel_and_bias import KernelAndBias
from .layer import Backward, Shape


class Dense(KernelAndBias):
    """Fully connected layer: y = activation(x @ kernel + bias) over the last axis.

    (N, …, inputs) → (N, …, units)

    units          number of outputs
    activation     a name such as "relu", a function, or None for none
    use_bias       whether a bias is added
    *_initializer  start values of kernel and bias
    *_regularizer  penalties on kernel, bias and output that are added to the loss, such as "l2"
    *_constraint   bounds for kernel and bias after each update, such as "max_norm"
    algorithm      name of the algorithm of the op `matmul`; None for an automatic choice

    Weights: kernel (inputs, units) and bias (units,). Also takes the arguments of `Layer`. Raises
    `ArgumentError` for arguments out of range, `ShapeError` for inputs with fewer than two axes.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> layer = layers.Dense(2, kernel_initializer="ones")
    >>> layer(np.array([[1, 2, 3]])).tolist()
    [[6.0, 6.0]]
    >>> [weight.shape for weight in layer.get_weights()]
    [(3, 2), (2,)]
    """

    min_ndim = 2

    def __init__(
        self,
        units: Count,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        algorithm: str | None = None,
        **kwargs: Any,
    ) -> None:
        kernel = kernel_initializer, kernel_regularizer, kernel_constraint
        bias = bias_initializer, bias_regularizer, bias_constraint
        kwargs |= {"activity_regularizer": activity_regularizer, "algorithm": algorithm}
        super().__init__(activation, use_bias, kernel, bias, **kwargs)
        self.units = int(units)

    def build(self, input_shape: Shape) -> None:
        """Create kernel and bias."""
        self.add_kernel_and_bias((input_shape[-1], self.units), (self.units,))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, …, units)."""
        return (*input_shape[:-1], self.units)

    def sums(self, x: Any) -> tuple[Any, Backward]:
        """(x @ kernel, backward)."""
        rows, weight = x.reshape(-1, x.shape[-1]), self.kernel.value
        z = matmul(rows, weight, transpose_a=False, transpose_b=False, algorithm=self.algorithm)

        def backward(dz: Any, need_dx: bool = True) -> Any:
            dz = dz.reshape(-1, self.units)
            gradient, algorithm = self.kernel.gradient, self.algorithm
            with aside(need_dx):
                matmul(rows, dz, transpose_a=True, transpose_b=False, algorithm=algorithm, out=gradient)
            if not need_dx:
                return None
            dx = matmul(dz, weight, transpose_a=False, transpose_b=True, algorithm=algorithm)
            return dx.reshape(x.shape)

        return z.reshape(*x.shape[:-1], self.units), backward

    def flops(self, input_shape: Shape) -> int:
        """Multiplications and additions of the matrix product of one image."""
        return 2 * math.prod(input_shape[1:]) * self.units
