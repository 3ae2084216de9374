"""What Dense and the convolutions have in common: a kernel, a bias and an activation."""

from __future__ import annotations

from typing import Any, ClassVar

from ..ops.bias import bias, bias_grad
from .layer import Activated, Backward


class KernelAndBias(Activated, abstract=True):
    """Base of layers whose weights are a kernel and, unless `use_bias` is False, a bias.

    `kernel` and `bias` are the initializer, the regularizer and the constraint of each.
    """

    filters_last: ClassVar[bool] = True
    """Whether `kernel` is one array whose last axes are the filters, or the units."""

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

    def sums(self, x: Any) -> tuple[Any, Backward]:
        """(z, backward) for a batch x, where the layer's result is activation(z + bias)."""
        raise NotImplementedError(f"{type(self).__name__} must define sums(x) -> (z, backward)")

    def linear(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(the sums with their bias, backward)."""
        z, sums_backward = self.sums(x)
        if not self.use_bias:
            return z, sums_backward

        def backward(dz: Any, need_dx: bool = True) -> Any:
            bias_grad(dz, out=self.bias.gradient)
            return sums_backward(dz, need_dx=need_dx)

        return bias(z, self.bias.value), backward

    def add_kernel_and_bias(self, kernel_shape: tuple[int, ...], bias_shape: tuple[int, ...]) -> None:
        """Create kernel and bias."""
        self.kernel = self.add_weight_by_name("kernel", kernel_shape)
        if self.use_bias:
            self.bias = self.add_weight_by_name("bias", bias_shape)
