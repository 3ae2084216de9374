"""Sequential: a stack of layers that is built, looked at, saved and, through `Trainer`, trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import deserialize, serialize
from ..devices import storage
from ..errors import ArgumentError, ShapeError
from ..layers.input import InputLayer
from ..layers.layer import Layer, Shape, Weight, assign_all, check_input_shape
from ..layers.parameters import Parameters
from ..retired import reject
from .trainer import Trainer

_GONE = {
    "fit_generator": "fit(generator) takes generators",
    "evaluate_generator": "evaluate(generator) takes generators",
    "predict_generator": "predict(generator) takes generators",
    "predict_classes": "predict(x).argmax(-1) gives the class numbers",
    "predict_proba": "predict(x) gives the probabilities",
    "export": "gpucnn saves with model.save('model.safetensors')",
    "to_json": "get_config() gives the architecture",
    "to_yaml": "get_config() gives the architecture",
}


class Sequential(Trainer):
    """Layers in a row, each with one input and one output.

    >>> model = Sequential([Input((28, 28, 1)), Conv2D(32, 3, activation="relu"), Flatten(), Dense(10)])

    Without an `Input` (or `input_shape=` on the first layer) the model is built at the first `fit` or `predict`.
    """

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None, **unknown: Any) -> None:
        if unknown:
            reject("Sequential", unknown, ["layers", "trainable", "name"])
        super().__init__()
        self.name = name or "sequential"
        self.layers: list[Layer] = []
        self._given_shape: tuple[int, ...] | None = None
        self._parameters: Parameters | None = None
        for layer in layers or []:
            self.add(layer)
        if not trainable:
            self.trainable = False

    # -- putting it together -------------------------------------------------------------------------------------------

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Append a layer; `Input(shape)` first, or `input_shape=` on the first layer, builds the model as it grows."""
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise ArgumentError(f"add({layer.__name__}) got the class: write {layer.__name__}(...)")
        if isinstance(layer, Sequential):
            raise ArgumentError("a Sequential inside a Sequential is not supported: add its layers one by one")
        if not isinstance(layer, Layer):
            raise ArgumentError(f"add({layer!r}) needs a layer of gpucnn.layers, such as Dense(10)")
        if isinstance(layer, InputLayer):
            if self.layers or self._given_shape:
                raise ArgumentError(f"{layer.name}: Input must be the first element of the model, and the only one")
            self._given_shape = layer.shape
            return
        if any(layer is other for other in self.layers):
            raise ArgumentError(f"{layer.name} is in the model already: make a second {type(layer).__name__}(...)")
        self._name_uniquely(layer)
        if not self.layers and self._given_shape is None and layer.given_input_shape is not None:
            self._given_shape = check_input_shape(layer.name, layer.given_input_shape)
        self.layers.append(layer)
        try:
            if self._given_shape is not None:
                self._build_from(len(self.layers) - 1, self._shape_before(len(self.layers) - 1))
        except Exception:
            self.layers.pop()
            raise
        self._changed()

    def pop(self, rebuild: bool = True) -> Layer | None:
        """Remove the last layer and return it; None if there is none."""
        if not self.layers:
            return None
        layer = self.layers.pop()
        self._changed()
        return layer

    def build(self, input_shape: Any = None) -> None:
        """Make the weights for inputs of `input_shape`, batch axis (None) first."""
        if not self.layers:
            raise ArgumentError("the model has no layers: add some first")
        if input_shape is not None:
            shape = check_input_shape("build", tuple(input_shape)[1:])
            if self._given_shape is not None and self._given_shape != shape:
                raise ShapeError(f"the model is built for inputs {self._given_shape} and cannot be rebuilt for {shape}")
            self._given_shape = shape
        if self._given_shape is None:
            raise ArgumentError("the input shape is unknown: put Input((28, 28, 1)) first, or call build((None, …))")
        try:
            self._build_from(0, (None, *self._given_shape))
        except ShapeError:
            if not any(layer.built for layer in self.layers):
                self._given_shape = None
            raise
        self._changed()

    @property
    def built(self) -> bool:
        """Whether all weights exist."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def input_shape(self) -> Any:
        """(None, …) with the batch axis first; None while it is unknown."""
        return None if self._given_shape is None else (None, *self._given_shape)

    @property
    def output_shape(self) -> Any:
        """(None, …) of the last layer; None before the model is built."""
        return self.layers[-1].output_shape if self.built else None

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained; setting it sets all layers."""
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer with this name or at this place."""
        if (name is None) == (index is None):
            raise ArgumentError("get_layer needs either name= or index=")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ArgumentError(f"get_layer(index={index}): the model has {len(self.layers)} layers")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise ArgumentError(f"there is no layer {name!r}; the model has {names}")

    # -- weights -------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Weight]:
        """All weights, in the order of the layers."""
        return [w for layer in self.layers for w in layer.weights]

    @property
    def trainable_weights(self) -> list[Weight]:
        """The weights that training changes."""
        return [w for layer in self.layers for w in layer.trainable_weights]

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """All other weights: frozen ones and moving statistics."""
        return [w for layer in self.layers for w in layer.non_trainable_weights]

    @property
    def parameters(self) -> Parameters:
        """The flat arrays that hold the weights and their gradients."""
        if self._parameters is None or not self._parameters.holds_all:
            if not self.built:
                self.build()
            self._parameters = Parameters(self.layers)
        self._parameters.bring()
        return self._parameters

    def count_params(self) -> int:
        """Number of elements of all weights."""
        return sum(layer.count_params() for layer in self.layers)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in Keras' order and layouts."""
        return [w.numpy() for w in self.weights]

    def set_weights(self, weights: list[Any]) -> None:
        """Copy these arrays into the weights; all shapes are checked before the first is changed."""
        assign_all("the model", self.weights, weights)

    # -- looking at it and keeping it ----------------------------------------------------------------------------------

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
        show_flops: bool = False,
    ) -> None:
        """Print the table of layers, output shapes and parameters; `show_flops` adds the work per image."""
        from .summary import summarize

        summarize(self, line_length, positions, print_fn, show_trainable, layer_range, show_flops)

    def save(self, filepath: Any, overwrite: bool = True, **unknown: Any) -> None:
        """Write weights, architecture and compile settings to one `.safetensors` file, whole or not at all."""
        from .saving import save_model

        if unknown:
            reject("save", unknown, ["filepath", "overwrite"])
        save_model(self, filepath, overwrite=overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Write the weights alone."""
        from .saving import save_weights

        save_weights(self, filepath, overwrite=overwrite)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False) -> None:
        """Read weights that `save` or `save_weights` wrote."""
        from .saving import load_weights

        load_weights(self, filepath, skip_mismatch=skip_mismatch)

    def save_checkpoint(self, filepath: Any) -> None:
        """Write all that training needs to resume bit for bit: model, optimizer state, and where it stands."""
        from .saving import save_checkpoint

        save_checkpoint(filepath, self)

    def load_checkpoint(self, filepath: Any) -> None:
        """Put the compiled model where a checkpoint was taken; the next `fit` resumes from there."""
        from .saving import load_checkpoint

        load_checkpoint(filepath, self)

    def get_config(self) -> dict[str, Any]:
        """The architecture as JSON values."""
        layers = []
        for layer in self.layers:
            description = serialize(layer)
            description["config"]["name"] = layer.name
            layers.append(description)
        shape = None if self._given_shape is None else list(self._given_shape)
        return {"name": self.name, "input_shape": shape, "layers": layers}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, type] | None = None) -> Sequential:
        """The model that `get_config` described, with new weights."""
        model = cls(name=config["name"])
        if config.get("input_shape") is not None:
            model._given_shape = check_input_shape("input_shape", config["input_shape"])
        for description in config["layers"]:
            model.add(deserialize(description, custom_objects))
        return model

    def __call__(self, x: Any, training: bool = False) -> np.ndarray:
        """The output for a batch x, in inference unless `training`."""
        x = np.asarray(x, np.float32)
        if self.input_shape is None:
            self.build((None, *x.shape[1:]))
        self.parameters.bring()
        step = storage.put(np.zeros(1, np.int64))
        y = storage.put(np.ascontiguousarray(x))
        for layer in self.layers:
            y = layer.forward(y, step, training)[0]
        return storage.get(y)

    def __getattr__(self, name: str) -> Any:
        if name in _GONE:
            raise AttributeError(f"Sequential has no {name}: {_GONE[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<Sequential name={self.name}, {len(self.layers)} layers>"

    # -- inside --------------------------------------------------------------------------------------------------------

    def _name_uniquely(self, layer: Layer) -> None:
        taken = {other.name for other in self.layers}
        if layer.given_name is not None and layer.name in taken:
            raise ArgumentError(f"two layers are called {layer.name!r}: give one of them another name")
        base, number = layer.name, 0
        while layer.name in taken:
            number += 1
            layer.name = f"{base}_{number}"

    def _shape_before(self, index: int) -> Shape:
        assert self._given_shape is not None
        previous = self.layers[index - 1].output_shape if index else (None, *self._given_shape)
        assert previous is not None
        return previous

    def _build_from(self, index: int, shape: Shape) -> None:
        for i in range(index, len(self.layers)):
            layer = self.layers[i]
            layer.stream = i
            if layer.built and layer.input_shape != shape:
                raise ShapeError(
                    f"{layer.name} is built for inputs {layer.input_shape} and cannot take {shape}: make a new layer"
                )
            try:
                layer.ensure_built(shape)
            except ShapeError as error:
                raise ShapeError(f"{error} (layer {i + 1}, {layer.name}). {self._ladder(i)}") from error
            assert layer.output_shape is not None
            shape = layer.output_shape

    def _ladder(self, index: int) -> str:
        """The sizes on the way to the layer that does not fit."""
        steps = [f"input {self._given_shape}"]
        steps += [f"{layer.name} {layer.output_shape[1:]}" for layer in self.layers[:index] if layer.output_shape]
        return "Sizes so far: " + " → ".join(steps)

    def _changed(self) -> None:
        self._parameters = None
        self._program = None
        self._metrics = None
        if self.optimizer is not None:
            self.optimizer.built = False
