"""The shape of a model's inputs, as the first element of the model."""

from __future__ import annotations

from typing import Any

from ..arguments import Count, is_count, wrong
from ..errors import ArgumentError
from .layer import Backward, Layer, check_input_shape


class InputLayer(Layer):
    """The shape of a model's inputs, as its first element. Usually written `Input(shape)`.

    shape         extents of one input without the batch axis, such as (28, 28, 1)
    batch_shape   instead of shape: extents with the batch axis first, which may be None
    batch_size    kept, and without effect: batches of any size run
    dtype         None or "float32"; inputs of all types are converted to float32
    name          the layer's name
    sparse, ragged, optional, input_tensor  not in gpucnn: leave them out

    Raises `ArgumentError` if there is no shape, or if an extent is not a positive integer.

    >>> from gpucnn import Input, Sequential, layers
    >>> model = Sequential([Input((28, 28, 1)), layers.Conv2D(8, 3), layers.Flatten()])
    >>> model.output_shape
    (None, 5408)
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: Count | None = None,
        dtype: Any = None,
        sparse: Any = None,
        ragged: Any = None,
        batch_shape: Any = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=dtype, name=name, **kwargs)
        for word, value in {"sparse": sparse, "ragged": ragged, "optional": optional}.items():
            if value is not None and value is not False:
                raise ArgumentError(f"Input({word}={value!r}): gpucnn's inputs are dense arrays; leave {word} out")
        if input_tensor is not None:
            raise ArgumentError("Input(input_tensor=...): gpucnn has no symbolic tensors; give the shape")
        if shape is not None and batch_shape is not None:
            raise ArgumentError(f"Input(shape={shape!r}, batch_shape={batch_shape!r}): give one of them")
        if shape is None:
            shape = self.given_input_shape
        if shape is None and batch_shape is not None:
            if not isinstance(batch_shape, (tuple, list)) or not batch_shape:
                raise wrong(
                    "Input", "batch_shape", batch_shape, "the batch axis and the extents, such as (None, 28, 28, 1)"
                )
            batch_size, *shape = batch_shape
            if batch_size is not None and not is_count(batch_size):
                raise wrong("Input", "batch_shape", batch_shape, "None or an integer of 1 or more first")
        if shape is None:
            raise ArgumentError("Input() needs the shape without the batch axis, such as Input((28, 28, 1))")
        self.shape = check_input_shape("Input", shape)
        self.batch_size = None if batch_size is None else int(batch_size)

    def forward(self, x: Any, step: Any, training: bool) -> tuple[Any, Backward]:
        """(x, backward), unchanged."""
        return x, lambda dy, need_dx=True: dy


Input = InputLayer
