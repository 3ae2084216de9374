"""What Dense and the convolutions have in common: a kernel, a bias and an activation."""

from __future__ import annotations

from typing import Any

from .layer import Activated


class KernelAndBias(Activated, abstract=True):
    """Base of layers whose weights are a kernel and, unless `use_bias` is False, a bias."""

    def __init__(
        self,
        activation: Any,
        use_bias: bool,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        *,
        algorithm: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation, **kwargs)
        self.use_bias = use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.kernel_regularizer, self.bias_regularizer = kernel_regularizer, bias_regularizer
        self.kernel_constraint, self.bias_constraint = kernel_constraint, bias_constraint
        self.algorithm = algorithm

    def add_kernel_and_bias(self, kernel_shape: tuple[int, ...], bias_shape: tuple[int, ...]) -> None:
        """Create kernel and bias."""
        self.kernel = self.add_weight(
            kernel_shape,
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                bias_shape,
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
