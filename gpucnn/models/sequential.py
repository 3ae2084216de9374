"""Sequential: a stack of layers and its weights, with Keras' methods to train, save and show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, NoReturn

import numpy as np

from ..arguments import BelowOne, Checked, Count, Length, Natural, PathLike, checked, numbers
from ..callbacks import History
from ..callbacks.progbar_logger import Verbose
from ..config import deserialize
from ..dispatch.precision import FLOAT32, Precision
from ..errors import ArgumentError, ShapeError
from ..layers.input import InputLayer
from ..layers.layer import Layer, Weight, assign_all, check_input_shape
from ..layers.parameters import Parameters, settling
from ..metrics import Metric
from ..retired import GONE_METHODS, no_attribute
from . import saving, stack
from .batches import Arrays, ClassWeight, one_batch, split_off
from .compile_settings import CompileSettings, Steps
from .model import computing
from .signature import Signature
from .state import TrainingState
from .summary import as_html, summarize
from .trainer import Trainer, report


class CompiledWith:
    """An attribute of a model that its settings of `compile` hold; `default` before."""

    def __init__(self, default: Any, doc: str) -> None:
        self._default, self.__doc__ = default, doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, model: Any, owner: Any = None) -> Any:
        if model is None:
            return self
        settings = model._trainer.settings
        return self._default if settings is None else getattr(settings, self._name)

    def __set__(self, model: Any, value: Any) -> None:
        setattr(model._trainer.compiled_settings(self._name), self._name, value)


class Sequential(Checked):
    """Layers in a row, each with one input and one output.

    >>> model = Sequential([Input((28, 28, 1)), Conv2D(32, 3), Flatten(), Dense(10)])

    Without an `Input` (or `input_shape=` on the first layer) the model is built at the first `fit`
    or `predict`.
    """

    def __init__(self, layers: Iterable[Any] | None = None, trainable: bool = True, name: str | None = None) -> None:
        self.name = name or "sequential"
        self.layers: list[Layer] = []
        self.history: History | None = None
        self.stop_training = False
        self.training_state = TrainingState()
        self.signature: Signature | None = None
        self._trainer = Trainer(self)
        self._sample_shape: tuple[int, ...] | None = None
        self._parameters: Parameters | None = None
        for layer in layers or []:
            self.add(layer)
        if not trainable:
            self.trainable = False

    # -- building ------------------------------------------------------------------------------------------------------

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Append a layer; it is built at once if the input shape is known."""
        if isinstance(layer, Sequential):
            raise ArgumentError("a Sequential inside a Sequential is not supported: add its layers one by one")
        stack.check_new(layer, self.layers)
        if isinstance(layer, InputLayer):
            if self.layers or self._sample_shape:
                raise ArgumentError(f"{layer.name}: Input must be the first element of the model, and the only one")
            self._sample_shape = layer.shape
            return
        stack.name_uniquely(layer, self.layers)
        if not self.layers and self._sample_shape is None and layer.given_input_shape is not None:
            self._sample_shape = check_input_shape(layer.name, layer.given_input_shape)
        stack.append(self.layers, layer, self._sample_shape)
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
            if self._sample_shape is not None and self._sample_shape != shape:
                raise ShapeError(
                    f"the model is built for inputs {self._sample_shape} and cannot be rebuilt for {shape}"
                )
            self._sample_shape = shape
        if self._sample_shape is None:
            raise ArgumentError("the input shape is unknown: put Input((28, 28, 1)) first, or call build((None, …))")
        with settling:
            try:
                stack.build(self.layers, self._sample_shape)
            except ShapeError:
                if not any(layer.built for layer in self.layers):
                    self._sample_shape = None
                raise
            self._changed()

    @property
    def built(self) -> bool:
        """Whether all weights exist."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def input_shape(self) -> Any:
        """(None, …) with the batch axis first; None while it is unknown."""
        return None if self._sample_shape is None else (None, *self._sample_shape)

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
        return stack.find(self.layers, name, index)

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
        with settling:
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
        """Copy these arrays into the weights, after checking all shapes."""
        assign_all("the model", self.weights, weights)

    # -- training ------------------------------------------------------------------------------------------------------

    @checked
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Annotated[None, "a Sequential has one loss; scale it instead"] = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: Steps = 1,
        jit_compile: bool | Literal["auto"] = "auto",
        auto_scale_loss: bool = True,
        precision: Precision = "float32",
    ) -> None:
        """Set how to train: the optimizer, the loss and the metrics, as names or objects.

        `run_eagerly`, `jit_compile` and `auto_scale_loss` are accepted and change nothing. With
        `steps_per_execution=k` the batch hooks of callbacks are called once for k batches, which a GPU
        replays as one (up to 1,024, or all full batches of an epoch); "auto" is 16 on a GPU and 1 on the
        CPU. More than 16 saves little, and delays the first epoch, in which they are recorded.
        `precision` "tf32" (11 bits) or "bfloat16" (8) rounds the factors of products, for tensor cores.
        """
        settings = CompileSettings(optimizer, loss, metrics, weighted_metrics, steps_per_execution, precision)
        self._trainer.compile(settings)

    def compile_config(self) -> dict[str, Any] | None:
        """What `compile` said as JSON values, functions by their names; None before."""
        return None if self._trainer.settings is None else self._trainer.settings.to_json()

    def compile_from_config(self, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> None:
        """Compile as `compile_config` described; `custom_objects` has your functions by name."""
        self._trainer.compile(CompileSettings.from_json(config, custom_objects))

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._trainer.settings is not None

    optimizer = CompiledWith(None, "The optimizer; None before `compile`. After it, another one can be assigned.")
    loss = CompiledWith(None, "The loss; None before `compile`. After it, another one can be assigned.")
    steps_per_execution = CompiledWith(1, "For how many batches the batch hooks of callbacks are called once.")
    precision = CompiledWith(FLOAT32, "The precision of products; another one can be assigned after `compile`.")

    @property
    def metrics(self) -> list[Metric]:
        """The metrics of `compile`, once labels were seen."""
        return self._trainer.metrics

    @property
    def metrics_names(self) -> list[str]:
        """`["loss", …]` in the order of `evaluate`'s result."""
        return ["loss", *(metric.name for metric in self.metrics)]

    @checked
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: Count | None = None,
        epochs: Count = 1,
        verbose: Verbose = "auto",
        callbacks: Any = None,
        validation_split: BelowOne = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: ClassWeight = None,
        sample_weight: Any = None,
        initial_epoch: Natural = 0,
        steps_per_epoch: Count | None = None,
        validation_steps: Count | None = None,
        validation_batch_size: Count | None = None,
        validation_freq: Count | range | Annotated[list[Count], Length(1)] = 1,
    ) -> History:
        """Train for `epochs` passes over x and y; returns the `History`.

        x  arrays (n, H, W, C), or an iterable of batches (x, y) or (x, y, sample_weight)
        y  class numbers (n,), one-hot rows (n, classes) or targets of the model's output shape

        Raises `TrainingError` when the loss is not finite, with the batch and the largest gradients
        by layer.
        """
        self._trainer.require_compiled("fit")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_off(validation_split, x, y, sample_weight)
        data = self._trainer.take(x, y, sample_weight, batch_size, steps_per_epoch, class_weight, kind="training ")
        held_out = None
        if validation_data is not None:
            size = validation_batch_size or (batch_size if isinstance(data, Arrays) else None)
            held_out = self._trainer.take_validation(validation_data, size, validation_steps)
        return self._trainer.fit(data, held_out, epochs, initial_epoch, shuffle, validation_freq, callbacks, verbose)

    @checked
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: Count | None = None,
        verbose: Verbose = "auto",
        sample_weight: Any = None,
        steps: Count | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics as `[loss, metric, …]`, one number without metrics, or a dict."""
        self._trainer.require_compiled("evaluate")
        data = self._trainer.take(x, y, sample_weight, batch_size, steps)
        return report(self._trainer.evaluate(data, callbacks, verbose), return_dict)

    @checked
    def predict(
        self,
        x: Any,
        batch_size: Count | None = None,
        verbose: Verbose = "auto",
        steps: Count | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """The model's output for x, as one float32 array (n, …)."""
        return self._trainer.predict(x, batch_size, steps, callbacks, verbose)

    @checked
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: ClassWeight = None,
        return_dict: bool = False,
    ) -> Any:
        """One update from one batch; returns loss and metrics since the last `reset_metrics`."""
        self._trainer.require_compiled("train_on_batch")
        x, size = one_batch(x)
        data = self._trainer.take(x, y, sample_weight, size, None, class_weight, kind="training ")
        return report(self._trainer.train_on_batch(data), return_dict)

    @checked
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics since the last `reset_metrics`, one batch more, without an update."""
        self._trainer.require_compiled("test_on_batch")
        x, size = one_batch(x)
        data = self._trainer.take(x, y, sample_weight, size, None)
        return report(self._trainer.test_on_batch(data), return_dict)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """The model's output for one batch."""
        return self.predict(*one_batch(x), verbose=0)

    def reset_metrics(self) -> None:
        """Reset the running loss and metrics of `train_on_batch` and `test_on_batch`."""
        self._trainer.reset_metrics()

    # -- summary and files ---------------------------------------------------------------------------------------------

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
        """Print the table of layers, output shapes and parameters, or pass it to `print_fn`.

        `expand_nested` also lists the layers that layers hold.
        """
        summarize(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range, show_flops)

    @checked
    def save(self, filepath: PathLike, overwrite: bool = True) -> None:
        """Write the model to a `.safetensors` or `.keras` file, whole or not at all."""
        saving.save_model(self, filepath, overwrite=overwrite)

    @checked
    def export(self, filepath: PathLike, format: str | None = None, **options: Any) -> None:
        """Write the model for inference elsewhere: `.onnx`, or `.py` for PyTorch."""
        saving.export_model(self, filepath, format, **options)

    @checked
    def save_weights(self, filepath: PathLike, overwrite: bool = True) -> None:
        """Write the weights alone."""
        saving.save_weights(self, filepath, overwrite=overwrite)

    @checked
    def load_weights(self, filepath: PathLike, skip_mismatch: bool = False) -> None:
        """Read weights that `save` or `save_weights` wrote, or Keras."""
        saving.load_weights(self, filepath, skip_mismatch=skip_mismatch)

    def save_checkpoint(self, filepath: Any) -> None:
        """Write all that training needs to resume bit for bit."""
        saving.save_checkpoint(filepath, self)

    def load_checkpoint(self, filepath: Any) -> None:
        """Restore a checkpoint into the compiled model; the next `fit` resumes from there."""
        saving.load_checkpoint(filepath, self)

    def get_config(self) -> dict[str, Any]:
        """The architecture as JSON values."""
        shape = None if self._sample_shape is None else list(self._sample_shape)
        return {"name": self.name, "input_shape": shape, "layers": stack.descriptions(self.layers)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, type] | None = None) -> Sequential:
        """The model that `get_config` described, with new weights."""
        model = cls(name=config["name"])
        if config.get("input_shape") is not None:
            model._sample_shape = check_input_shape("input_shape", config["input_shape"])
        for description in config["layers"]:
            model.add(deserialize(description, custom_objects))
        return model

    def __getstate__(self) -> dict[str, Any]:
        """What copy.deepcopy and pickle take: all, with the optimizer's state, on the host."""
        trained = self.compiled and self.optimizer.built
        return {**vars(self), "_parameters": None, "_optimizer_state": self.optimizer.state() if trained else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        optimizer_state = state.pop("_optimizer_state")
        vars(self).update(state)
        if optimizer_state is not None:
            self.optimizer.build(self.parameters)
            self.optimizer.set_state(optimizer_state)

    def __copy__(self) -> NoReturn:
        raise ArgumentError(
            "copy.copy(model) would share layers with the model: use copy.deepcopy(model), or "
            "models.clone_model(model) for new weights"
        )

    def __call__(self, x: Any, training: bool = False) -> np.ndarray:
        """The output for a batch x; each call in `training` draws other random numbers."""
        x = numbers("x", x).astype(np.float32, copy=False)
        if self.input_shape is None:
            self.build((None, *x.shape[1:]))
        with computing(self):
            call = self.training_state.calls
            self.training_state.calls += bool(training)
            return stack.apply(self.layers, x, call, training)

    def __getattr__(self, name: str) -> Any:
        if name in GONE_METHODS:
            raise AttributeError(f"Sequential has no {name}: {GONE_METHODS[name]}")
        raise AttributeError(no_attribute(type(self).__name__, name, dir(type(self))))

    def _repr_html_(self) -> str:
        """The summary as a table, for notebooks."""
        return as_html(self)

    def __repr__(self) -> str:
        return f"<Sequential name={self.name}, {len(self.layers)} layers>"

    def _changed(self) -> None:
        self._parameters = None
        self._trainer.layers_changed()
