"""The base of all layers: weights, a shape rule, and a forward pass that returns its backward pass.

A custom layer defines `forward`, `build` (if it has weights) and `compute_output_shape` (if the
shape changes):

    @gpucnn.register
    class Scale(gpucnn.layers.Layer):
        '''y = x · gamma, one gamma per channel.'''

        def build(self, input_shape):
            self.gamma = self.add_weight(shape=input_shape[-1:], initializer="ones", name="gamma")

        def forward(self, x, step, training):
            def backward(dy, need_dx=True):
                self.gamma.gradient[...] = (dy * x).reshape(-1, x.shape[-1]).sum(axis=0)
                return dy * self.gamma.value if need_dx else None

            return x * self.gamma.value, backward
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .. import activations, constraints, initializers, random, regularizers
from ..arguments import float32, is_count
from ..config import Configurable, Counted, snake_case
from ..devices import free_memory, storage
from ..distributed import Group
from ..errors import ArgumentError, MemoryNeedError, ShapeError, one_line
from ..ops.window import Sliding

Shape = tuple[Any, ...]
"""Extents of an array of one batch: None for the batch axis, then integers."""
Backward = Callable[..., Any]

_LARGE = 64 << 20
"""Bytes of a weight from which the free memory is looked up, which takes time on some systems."""

_allowance: ContextVar[int | None] = ContextVar("_allowance", default=None)


@contextmanager
def at_most(elements: int) -> Iterator[None]:
    """Limit the weights created in this block to `elements` elements; no more are allocated."""
    token = _allowance.set(elements)
    try:
        yield
    finally:
        _allowance.reset(token)


class Weight(Counted):
    """One array that a layer owns, with its gradient.

    `value` and `gradient` are float32 arrays of `shape`, on the host at first. When the model is
    built they become views into its two flat arrays (`home`) on the device in use: keep the Weight,
    not its `value`. Raises `MemoryNeedError` if they do not fit into the memory of the host.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        initializer: Any = "glorot_uniform",
        regularizer: Any = None,
        constraint: Any = None,
        trainable: bool = True,
        name: str = "weight",
    ) -> None:
        self.name = name
        self.path = name
        self.shape = tuple(int(extent) for extent in shape)
        self._take_from_allowance()
        self.initializer = initializers.get(initializer)
        self.regularizer = regularizers.get(regularizer)
        self.constraint = constraints.get(constraint)
        self.trainable = trainable
        self.home: Any = None
        self._check_memory()
        try:
            self.value: Any = np.asarray(self.initializer(self.shape), np.float32)
            self.gradient: Any = np.zeros(self.shape if trainable else (0,), np.float32)
        except MemoryError:
            raise self._does_not_fit(free_memory.available()) from None

    def __getstate__(self) -> dict[str, Any]:
        """A copy's values lie in host memory of their own, outside any model, without gradients."""
        return {
            **vars(self),
            "home": None,
            "value": self.numpy(),
            "gradient": np.zeros(np.shape(self.gradient), np.float32),
        }

    def _take_from_allowance(self) -> None:
        allowance = _allowance.get()
        if allowance is not None:
            size = math.prod(self.shape)
            if min(self.shape, default=0) < 0 or size > allowance:
                raise ShapeError(f"{self.name} of shape {self.shape} has more than the {allowance} elements left")
            _allowance.set(allowance - size)

    @property
    def _bytes(self) -> int:
        return math.prod(self.shape) * 4 * (2 if self.trainable else 1)

    def _check_memory(self) -> None:
        if self._bytes >= _LARGE:
            free = free_memory.available()
            if free is not None and self._bytes > free:
                raise self._does_not_fit(free)

    def _does_not_fit(self, free: int | None) -> MemoryNeedError:
        need, left = free_memory.readable(self._bytes), free_memory.readable(free)
        purpose = "values and gradient" if self.trainable else "its values"
        return MemoryNeedError(
            f"{self.name} of shape {self.shape} needs {need} for {purpose}, and {left} is free: use a smaller layer"
        )

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.size

    def numpy(self) -> np.ndarray:
        """A copy of the value."""
        return np.array(storage.get(self.value))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numpy().astype(dtype or np.float32, copy=False)

    def __dlpack__(self, **options: Any) -> Any:
        """The value's memory for another library, such as `torch.from_dlpack(weight)`; in the emulator a copy."""
        return self._shareable().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._shareable().__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The value's memory on a GPU; `AttributeError` elsewhere, as the protocol says."""
        return self.value.__cuda_array_interface__

    def _shareable(self) -> Any:
        return self.value if hasattr(self.value, "__dlpack__") else self.numpy()

    def bring(self) -> None:
        """Move value and gradient to the device in use, if they are elsewhere."""
        self.value, self.gradient = storage.own(self.value), storage.own(self.gradient)

    def assign(self, value: Any) -> None:
        """Copy `value` into the weight; its shape must be the weight's."""
        value = np.asarray(value)
        if value.shape != self.shape:
            raise ShapeError(f"{self.path} has shape {self.shape}; the given array has shape {value.shape}")
        storage.write(self.value, value)

    def __repr__(self) -> str:
        return f"<Weight {self.path} {self.shape}>"


class Layer(Configurable):
    """Base of all layers. Subclass it to write a custom layer.

    name                  used in summaries and files; by default the class name in snake case
    trainable             whether training changes the weights
    activity_regularizer  penalty on the output that is added to the loss, such as "l2"
    input_shape           shape of one input, without the batch axis; for the first layer of a model
    dtype                 None or "float32"

    A subclass defines `forward(x, step, training)`, which returns `(y, backward)`. x and y are
    float32 arrays whose first axis is the batch; step is an int64 array of one element, the number
    of updates so far. `backward(dy, need_dx=True)` writes (never adds) the gradients of the weights
    into `weight.gradient` and returns the gradient of x, or None if `need_dx` is False. Everything
    it needs lies in its closure. Decorate the class with `@gpucnn.register` so that saved models
    that use it can be loaded.

    Every layer can be called on an array, to see what it does. Raises `ArgumentError` for arguments
    that the layer does not have, and `ShapeError` for inputs that do not fit.

    >>> import numpy as np
    >>> from gpucnn import layers
    >>> class Double(layers.Layer):
    ...     def forward(self, x, step, training):
    ...         return 2 * x, lambda dy, need_dx=True: 2 * dy
    >>> Double()(np.array([[1, 2, 3]])).tolist()
    [[2.0, 4.0, 6.0]]
    """

    min_ndim: int | None = None
    ndim: int | None = None
    """The number of axes of the input, or the least number, batch included; None for any."""
    inner: Sequence[Layer] = ()
    """Layers that the layer holds."""
    first_sample: int = 0
    """The place of x[0] in the batch, where a batch is computed in parts."""
    peers: Group | None = None
    """The processes that compute the other parts of the batch, during a step that several compute."""
    is_idle: bool = False
    """Whether x stands in for the part of a process for which the batch has no samples."""
    batch_statistics: Sequence[Any] = ()
    """What forward has computed for `update`; where a batch is computed in parts, `update` sees the mean
    over them, weighted by their samples."""

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        name: str | None = None,
        input_shape: Any = None,
    ) -> None:
        float32(type(self).__name__, dtype, "layers compute in float32")
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.trainable = trainable
        self.given_name = name
        self.name = name or snake_case(type(self).__name__)
        self.given_input_shape = None if input_shape is None else check_input_shape(type(self).__name__, input_shape)
        self.algorithm: str | None = None
        self.built = False
        self.input_shape: Shape | None = None
        self.output_shape: Shape | None = None
        self.weights: list[Weight] = []
        self.stream = random.next_stream()
        self._calls = 0

    def build(self, input_shape: Shape) -> None:
        """Create the weights for inputs of this shape (batch axis None first)."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of y for x of this shape, batch axis None first. Raises `ShapeError`."""
        return input_shape

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(y, backward) for a batch x."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, step, training) -> (y, backward)")

    def update(self) -> None:
        """Store state that forward computed, such as moving statistics, if the loss is finite."""

    def flops(self, input_shape: Shape) -> int:
        """Floating-point operations of the forward pass for one image."""
        return 0

    def sliding(self, input_shape: Shape) -> tuple[Sliding, ...]:
        """The window along each axis but batch and channels; empty if the layer slides no window."""
        return ()

    def add_weight(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Weight:
        """A new weight, initialised at once; initializer None means glorot_uniform."""
        float32(f"{self.name}: add_weight", dtype, "weights are float32")
        weight = Weight(
            shape,
            initializer or "glorot_uniform",
            regularizer,
            constraint,
            trainable,
            name or f"weight_{len(self.weights)}",
        )
        self.weights.append(weight)
        return weight

    def add_weight_by_name(self, name: str, shape: tuple[int, ...]) -> Weight:
        """A new trainable weight with the layer's `<name>_initializer`, `<name>_regularizer` and
        `<name>_constraint`."""
        initializer, regularizer, constraint = (
            getattr(self, f"{name}_{part}") for part in ("initializer", "regularizer", "constraint")
        )
        return self.add_weight(shape, initializer, None, True, regularizer, constraint, name)

    def check_arguments_of_weights(self, *names: str) -> None:
        """Raise `ArgumentError` unless `add_weight_by_name` can make the weights of these names."""
        for name in names:
            initializers.check(getattr(self, f"{name}_initializer"))
            regularizers.check(getattr(self, f"{name}_regularizer"))
            constraints.check(getattr(self, f"{name}_constraint"))

    def ensure_built(self, input_shape: Shape) -> None:
        """Check the number of axes, create the weights and fix the shapes, once."""
        if self.built:
            return
        self.check_ndim(input_shape)
        output_shape = self.compute_output_shape(input_shape)
        self.build(input_shape)
        for weight in self.weights:
            weight.path = f"{self.name}/{weight.path}"
        self.input_shape, self.output_shape = input_shape, output_shape
        self.built = True

    def check_ndim(self, shape: Shape) -> None:
        """Raise if an input of this shape has the wrong number of axes."""
        if (self.ndim is not None and len(shape) != self.ndim) or (
            self.min_ndim is not None and len(shape) < self.min_ndim
        ):
            need = self.ndim if self.ndim is not None else f"at least {self.min_ndim}"
            raise ShapeError(f"{self.name} ({type(self).__name__}) needs {need} axes, batch included, and got {shape}")

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Build the layer if necessary and return y alone, to see what the layer does.

        Each call in training is a step of its own, and so draws other random numbers.
        """
        if isinstance(x, Layer):
            raise ArgumentError(
                f"{self.name}({x.name}): layers are not called on layers, as models are stacks: write "
                "Sequential([...]), with Residual or Parallel for branches"
            )
        x = np.ascontiguousarray(x, np.float32)
        self.ensure_built((None, *x.shape[1:]))
        for weight in self.weights:
            weight.bring()
        step = storage.put(np.array([self._calls], np.int64))
        self._calls += bool(training)
        return storage.get(self.forward(storage.put(x), step, training)[0])

    @property
    def trainable_weights(self) -> list[Weight]:
        """The weights that training changes."""
        return [w for w in self.weights if w.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """All other weights."""
        trainable = {id(w) for w in self.trainable_weights}
        return [w for w in self.weights if id(w) not in trainable]

    def count_params(self) -> int:
        """Number of elements of all weights."""
        if not self.built:
            raise ArgumentError(f"{self.name} is not built yet: give the model an Input, or fit it once")
        return sum(w.size for w in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in Keras' order and layouts."""
        return [w.numpy() for w in self.weights]

    def set_weights(self, weights: list[Any]) -> None:
        """Copy arrays into the weights; all shapes are checked before the first is changed."""
        assign_all(self.name, self.weights, weights)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class Activated(Layer, abstract=True):
    """Base of layers with an `activation`: `linear` computes what the activation is applied to.

    The two halves can be called apart: a loss that is computed from the logits needs `linear`
    alone.
    """

    def __init__(self, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def linear(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(z, backward) for a batch x, where the layer's result is activation(z)."""
        raise NotImplementedError(f"{type(self).__name__} must define linear(x, step, training) -> (z, backward)")

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(activation(linear(x)), backward)."""
        z, linear_backward = self.linear(x, step, training)
        y, activation_backward = self.activation.forward(z)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            return linear_backward(activation_backward(dy), need_dx=need_dx)

        return y, backward


def every(layers: Iterable[Layer]) -> Iterator[Layer]:
    """The layers, each followed by those that it holds, at any depth."""
    for layer in layers:
        yield layer
        yield from every(layer.inner)


def leaves(layers: Iterable[Layer]) -> Iterator[Layer]:
    """The layers at any depth that hold no others."""
    return (layer for layer in every(layers) if not layer.inner)


def by_path(layers: Iterable[Layer], path: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers at any depth that hold no others, with names such as "residual/dropout"."""
    for layer in layers:
        if layer.inner:
            yield from by_path(layer.inner, f"{path}{layer.name}/")
        else:
            yield f"{path}{layer.name}", layer


def assign_all(owner: str, weights: list[Weight], values: list[Any]) -> None:
    """Copy an array into each weight; all shapes are checked before the first is changed."""
    if len(values) != len(weights):
        raise ShapeError(f"{owner} has {len(weights)} weights and was given {len(values)}")
    for weight, value in zip(weights, values, strict=True):
        if np.shape(value) != weight.shape:
            raise ShapeError(f"{weight.path} has shape {weight.shape}; the given array has shape {np.shape(value)}")
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def drawn_before(first: int, words: int) -> tuple[int, int]:
    """(samples, counter): sample `first` of a batch, with so many random words each, behind so many samples,
    three at most, takes the words from this counter on, which has four."""
    spare = first % (4 // math.gcd(4, words))
    return spare, (first - spare) * words // 4


def behind(x: Any, first: int) -> Any:
    """x behind `first` samples of zeros, so that an op draws the random words of its place in a batch."""
    if not first:
        return x
    longer = storage.zeros((first + x.shape[0], *x.shape[1:]), x.dtype)
    longer[first:] = x
    return longer


def check_input_shape(owner: str, shape: Any) -> tuple[int, ...]:
    """A shape without the batch axis, whose extents are all positive integers."""
    if is_count(shape):
        raise ArgumentError(f"{owner}: the input shape is a tuple such as ({shape},), not {shape}")
    extents = tuple(shape) if isinstance(shape, (tuple, list, np.ndarray)) else ()
    if not extents or not all(map(is_count, extents)):
        listed = extents or one_line(repr(shape))
        raise ArgumentError(
            f"{owner}: input shape {listed} must list positive extents without the batch axis, such as (28, 28, 1)"
        )
    return tuple(int(e) for e in extents)
