"""What Conv1D, Conv2D, Conv3D and DepthwiseConv2D have in common."""

from __future__ import annotations

import inspect
import math
from typing import Any, ClassVar

from ..arguments import Count, channels_last, extents, padding_name
from ..devices.branches import aside
from ..dispatch.op import Op
from ..errors import ArgumentError, ShapeError
from ..ops.window import Sliding, positions, same_padding, span
from .kernel_and_bias import KernelAndBias
from .layer import Backward, Shape

_AXES = {1: ("steps",), 2: ("rows", "columns"), 3: ("planes", "rows", "columns")}


class Convolution(KernelAndBias, abstract=True):
    """Slides `filters` filters along `rank` axes: y = activation(conv(x, kernel) + bias).

    kernel  (*kernel_size, channels / groups, filters)
    bias    (filters,), unless use_bias=False
    """

    rank: ClassVar[int]
    conv: ClassVar[Op]
    conv_grad_input: ClassVar[Op]
    conv_grad_weight: ClassVar[Op]
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Explain `Conv2D(32, 3, 3)`: a filter of 3 × 3 in Keras 1, strides of 3 in Keras 3."""
        second_and_third = list(inspect.signature(cls.__init__).parameters)[2:4]
        if cls.rank > 1 and len(args) > 2 and second_and_third == ["kernel_size", "strides"]:
            size, strides = args[1:3]
            if type(size) is int and type(strides) is int and (strides > 2 or strides == size > 1):
                call, sizes = f"{cls.__name__}({args[0]!r}, ", (size, strides, *args[3:])[: cls.rank]
                raise ArgumentError(
                    f"{call}{size}, {strides}) is how Keras 1 wrote the sizes of a filter: write {call}{sizes}), "
                    f"or {call}{size}, strides={strides}) if you mean the distance between windows"
                )
        return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        filters: Count,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        data_format: Any = None,
        dilation_rate: Any = 1,
        groups: Count = 1,
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
        owner = type(self).__name__
        channels_last(owner, data_format)
        self.filters = int(filters)
        self.kernel_size = extents(owner, "kernel_size", kernel_size, self.rank)
        self.strides = extents(owner, "strides", strides, self.rank)
        self.padding = padding_name(owner, padding, self.paddings)
        self.dilation_rate = extents(owner, "dilation_rate", dilation_rate, self.rank)
        self.groups = int(groups)
        if self.filters % self.groups:
            raise ArgumentError(f"{owner}(filters={filters}, groups={groups}): filters must be a multiple of groups")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(
                f"{owner}(strides={strides}, dilation_rate={dilation_rate}): only one of them may be greater than 1"
            )
        self.ndim = self.rank + 2

    def build(self, input_shape: Shape) -> None:
        """Create kernel and bias."""
        self.channels = input_shape[-1]
        self.add_kernel_and_bias(self._kernel_shape(self.channels), self._weight_shape(self.channels)[-1:])

    def check_ndim(self, shape: Shape) -> None:
        """Raise, with the likely cause, if an input of this shape has the wrong number of axes."""
        if len(shape) == self.ndim:
            return
        axes = ("batch", *_AXES[self.rank], "channels")
        fix = ""
        if len(shape) == self.rank + 1:
            fix = "; add a missing channel axis with x[..., None], or the batch axis of a single input with x[None]"
        raise ShapeError(f"{self.name} needs inputs of {len(axes)} axes ({', '.join(axes)}) and got {shape}{fix}")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, *positions of the filter, filters)."""
        channels = input_shape[-1]
        groups = self._groups(channels)
        if channels % groups:
            raise ShapeError(f"{self.name}: {channels} channels cannot be split into groups={groups}: {input_shape}")
        padding = self._padding(input_shape[1:-1])
        counts = []
        for axis, size in enumerate(input_shape[1:-1]):
            window, dilation = self.kernel_size[axis], self.dilation_rate[axis]
            counts.append(positions(size, window, self.strides[axis], dilation, padding[axis]))
            if not counts[-1]:
                raise ShapeError(
                    f"{self.name}: {_AXES[self.rank][axis]} shrink to nothing: a filter that reaches over "
                    f"{span(window, dilation)} does not fit into {size}, input {input_shape}; "
                    f"use padding='same' or a smaller kernel_size{_channels_first_hint(input_shape)}"
                )
        return (input_shape[0], *counts, self._weight_shape(channels)[-1])

    def sums(self, x: Any) -> tuple[Any, Backward]:
        """(conv(x, kernel), backward)."""
        weight = self.op_weight
        window = {**self.window(x.shape), "groups": self.op_groups, "algorithm": self.algorithm}

        def backward(dz: Any, need_dx: bool = True) -> Any:
            dweight = self.kernel.gradient.reshape(weight.shape)
            with aside(need_dx):
                self.conv_grad_weight(dz, x, kernel_size=weight.shape[:-2], **window, out=dweight)
            return self.conv_grad_input(dz, weight, size=x.shape[1:-1], **window) if need_dx else None

        return self.conv(x, weight, **window), backward

    def flops(self, input_shape: Shape) -> int:
        """Multiplications and additions of the convolution of one image."""
        positions_of_filter = self.compute_output_shape(input_shape)[1:-1]
        return 2 * math.prod(positions_of_filter) * math.prod(self._weight_shape(input_shape[-1]))

    def sliding(self, input_shape: Shape) -> tuple[Sliding, ...]:
        """The filter along each axis."""
        return tuple(map(Sliding, self.kernel_size, self.strides, self.dilation_rate, self._padding(input_shape[1:-1])))

    def window(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """The strides, padding and dilation for x of this shape, as the ops take them."""
        return {"strides": self.strides, "padding": self._padding(shape[1:-1]), "dilation": self.dilation_rate}

    @property
    def op_weight(self) -> Any:
        """The values of the kernel as the op takes them."""
        return self.kernel.value.reshape(self._weight_shape(self.channels))

    @property
    def op_groups(self) -> int:
        """The number of groups as the op takes it."""
        return self._groups(self.channels)

    def _groups(self, channels: int) -> int:
        return self.groups

    def _weight_shape(self, channels: int) -> tuple[int, ...]:
        """The kernel as the op takes it."""
        return (*self.kernel_size, channels // self.groups, self.filters)

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        """The kernel as the user sees it."""
        return self._weight_shape(channels)

    def _padding(self, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        if self.padding == "same":
            return tuple(map(same_padding, sizes, self.kernel_size, self.strides, self.dilation_rate))
        if self.padding == "causal":
            return tuple((span(s, d) - 1, 0) for s, d in zip(self.kernel_size, self.dilation_rate, strict=True))
        return ((0, 0),) * self.rank


def _channels_first_hint(shape: Shape) -> str:
    _, first, *rest = shape
    if len(set(rest)) == 1 and first in (1, 3) and rest[0] > 3:
        return "; the shape looks like channels first: move the channels to the end with np.moveaxis(x, 1, -1)"
    return ""
