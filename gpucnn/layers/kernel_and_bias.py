"""What Dense and the convolutions have in common: a kernel, a bias and an activation."""

from __future__ import annotations

from typing import Any

from .layer import Activated


class KernelAndBias(Activated, abstract=True):
    """Base of layers whose weights are a kernel and, unless `use_bias` is False, a bias.

    `kernel` and `bias` are the initializer, the regularizer and the constraint of each.
    """

    def __init__(
        self,
        activation: Any,
        use_bias: bool,
        kernel: tuple[Any, Any, Any],
        bias: tuple[Any, Any, Any],
        /,
        *,
        algorithm: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation, **kwargs)
        self.use_bias = use_bias
        self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint = kernel
        self.bias_initializer, self.bias_regularizer, self.bias_constraint = bias
        self.algorithm = algorithm
        self.check_arguments_of_weights("kernel", "bias")

    def add_kernel_and_bias(self, kernel_shape: tuple[int, ...], bias_shape: tuple[int, ...]) -> None:
        """Create kernel and bias."""
        self.kernel = self.add_weight_by_name("kernel", kernel_shape)
        if self.use_bias:
            self.bias = self.add_weight_by_name("bias", bias_shape)
