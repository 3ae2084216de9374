"""Objects of gpucnn as Keras 3 describes them in JSON, and back."""

from __future__ import annotations

from typing import Any

from ... import layers
from ...config import built_in
from ...errors import ArgumentError, one_line
from ...layers.augmentation import Augmentation
from ...layers.layer import Layer
from ...models import saving
from ...models.model import Model
from ...ops.activation import ALPHAS
from . import functional
from .store import group_names

_MODULES = {
    "Layer": "keras.layers",
    "Initializer": "keras.initializers",
    "Regularizer": "keras.regularizers",
    "Constraint": "keras.constraints",
    "Optimizer": "keras.optimizers",
    "LearningRateSchedule": "keras.optimizers.schedules",
    "Loss": "keras.losses",
    "Metric": "keras.metrics",
}
"""The kinds of gpucnn's objects, and where Keras has the classes of the same names."""

_KINDS = {module: kind for kind, module in _MODULES.items()}

_OURS_ALONE = {"algorithm", "input_shape", "dtype"}
"""Arguments of layers that Keras does not have, or has elsewhere."""

_WITHOUT_EFFECT = {"jit_compile", "name", "dtype", "is_legacy_optimizer", "loss_scale_factor", "shared_object_id"}
"""Arguments of Keras' objects that change no result; of those gpucnn lacks, others must be None or False."""

_CROPS = "the RandomCrop of Keras resizes images in inference, and that of gpucnn cuts out the middle"

Description = dict[str, Any]


def described(model: Model) -> Description:
    """A model as `config.json` has it."""
    shape = list(model.input_shape)
    first = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": shape, "dtype": "float32", "sparse": False, "name": "input_layer"},
        "registered_name": None,
    }
    settings = {"compile_config": _described_settings(model.compile_config())}
    if any(layer.inner for layer in model.layers):
        writer = functional.Writer(first, tuple(shape), _described_layers)
        writer.add(model.layers)
        return writer.model(model.name) | settings
    stack = [first, *(description for layer in model.layers for description in _described_layers(layer))]
    config = {"name": model.name, "trainable": True, "layers": stack, "build_input_shape": shape}
    description = {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}
    return description | {"build_config": {"input_shape": shape}} | settings


def _described_layers(layer: Layer) -> list[Description]:
    return [_described_layer(part) for part in _as_in_keras(layer)]


def _as_in_keras(layer: Layer) -> list[Layer]:
    """The layer itself; for a RandomAffine, which Keras lacks, layers of Keras that do the same in a row."""
    if type(layer) is not layers.RandomAffine:
        return [layer]
    edge: dict[str, Any] = {"fill_mode": layer.fill_mode, "fill_value": layer.fill_value}
    parts: dict[str, Augmentation] = {
        "rotation": layers.RandomRotation(layer.rotation_factor, **edge),
        "translation": layers.RandomTranslation(layer.height_factor, layer.width_factor, **edge),
        "zoom": layers.RandomZoom(layer.zoom_factor, **edge),
    }
    if layer.flip_mode is not None:
        parts["flip"] = layers.RandomFlip(layer.flip_mode)
    for number, (name, part) in enumerate(parts.items()):
        part.name, part.seed = f"{layer.name}_{name}", (layer.seed + number) % 2**31
        part.ensure_built(layer.input_shape or ())
    return list(parts.values())


def _described_layer(layer: Layer) -> Description:
    arguments = built_in("Layer", type(layer).__name__)
    if arguments is None or not type(layer).__module__.startswith("gpucnn."):
        raise ArgumentError(
            f"the layer {layer.name} ({type(layer).__name__}) cannot be written for Keras, which has gpucnn's own "
            "layers only: save the model as .safetensors"
        )
    if isinstance(layer, layers.RandomCrop):
        raise ArgumentError(f"the layer {layer.name}: {_CROPS}; use CenterCrop")
    config = {name: value for name, value in layer.get_config().items() if name not in _OURS_ALONE}
    config["name"] = layer.name
    if layer.weights:  # of the others, some do not take it
        config["trainable"] = layer.trainable
    if "data_format" in arguments:
        config["data_format"] = "channels_last"
    if config.get("seed") is not None and config["seed"] >= 2**31:
        raise ArgumentError(f"the layer {layer.name} has the seed {config['seed']}, and Keras takes those below 2**31")
    description = {"kind": "Layer", "class_name": type(layer).__name__, "config": config}
    return {**_to_keras(description, layer.name), "build_config": {"input_shape": list(layer.input_shape or ())}}


def _described_settings(settings: Description | None) -> Description | None:
    """What `compile` said; functions of the user's raise `ArgumentError`."""
    if settings is None:
        return None
    named = {key: settings[key] for key in ("optimizer", "loss", "metrics", "weighted_metrics", "steps_per_execution")}
    return {**_to_keras(named, "compile"), "loss_weights": None, "run_eagerly": False, "jit_compile": False}


def _to_keras(value: Any, owner: str) -> Any:
    if isinstance(value, list):
        return [_to_keras(item, owner) for item in value]
    if not isinstance(value, dict):
        return value
    if "function" in value and len(value) == 1:
        raise ArgumentError(f"{owner} uses your function {value['function']}, which a file of Keras cannot hold")
    if not {"kind", "class_name", "config"} <= value.keys():
        return {key: _to_keras(item, owner) for key, item in value.items()}
    kind, name = value["kind"], value["class_name"]
    if kind == "Activation":
        return _activation_name(value, owner)
    if kind not in _MODULES or built_in(kind, name) is None:
        raise ArgumentError(f"{owner} uses your {kind.lower()} {name}, which a file of Keras cannot hold")
    config = {key: _to_keras(item, owner) for key, item in value["config"].items()}
    return {"module": _MODULES[kind], "class_name": name, "config": config, "registered_name": None}


def _activation_name(value: Description, owner: str) -> str:
    config = value["config"]
    function, alpha = config.get("function"), config.get("alpha")
    if value["class_name"] != "Elementwise" or function == "gelu_tanh" or alpha not in (None, ALPHAS.get(function)):
        raise ArgumentError(
            f"{owner} has an activation with parameters, which a file of Keras cannot hold: use a layer"
        )
    return function


# -- from Keras --------------------------------------------------------------------------------------------------------


def architecture(description: Description) -> tuple[Description, list[str]]:
    """What `Sequential.from_config` takes, for the content of `config.json`, and where the weights are of
    each layer that holds no others, in the order of the model.

    Raises `ArgumentError` for branches that Residual and Parallel cannot express, and for layers that
    gpucnn lacks.
    """
    kind, config = description.get("class_name"), description["config"]
    if kind not in ("Sequential", "Functional", "Model"):
        raise ArgumentError(f"it holds a {one_line(kind)}: Sequential and Functional models are read")
    entries = config["layers"]
    if len(entries) > saving.MOST_LAYERS:
        raise ArgumentError(f"it has {len(entries)} layers, more than {saving.MOST_LAYERS}")
    groups = group_names(entry["class_name"] for entry in entries)
    shape: Any = config.get("build_input_shape")
    starts = [number for number, entry in enumerate(entries) if entry["class_name"] == "InputLayer"]
    if len(starts) > 1:
        raise ArgumentError(f"it has {len(starts)} inputs: a Sequential has one")
    if starts not in ([], [0]):
        raise ArgumentError("it has an InputLayer that is not the first")
    if starts:
        first = entries[0]["config"]
        shape = first.get("batch_shape") or first.get("batch_input_shape")
    if kind == "Sequential":
        read, used = [_layer(entry) for entry in entries[len(starts) :]], groups[len(starts) :]
    else:
        read, order = functional.stack(config, _layer)
        by_name = {entry["name"]: group for entry, group in zip(entries, groups, strict=True)}
        used = [by_name[name] for name in order]
    if not isinstance(shape, list) or len(shape) < 2:
        raise ArgumentError("it does not say the shape of its inputs: build the model before it is saved")
    if any(extent is None for extent in shape[1:]):
        raise ArgumentError(f"it takes inputs of shape {tuple(shape)}: all extents but the first must be fixed")
    return {"name": config.get("name"), "input_shape": shape[1:], "layers": read}, used


def _layer(entry: Description) -> Description:
    name, config = entry["class_name"], dict(entry["config"])
    called = f"its layer {one_line(config.get('name'))} ({one_line(name)})"
    if name in ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"):
        raise ArgumentError(f"{called} holds code, and nothing in a file is run: write it as a layer of gpucnn")
    if name in ("Sequential", "Functional"):
        raise ArgumentError(f"{called} is a model inside the model: add its layers one by one")
    if built_in("Layer", name) is None:
        hint = ""
        try:
            getattr(layers, name)
        except AttributeError as error:
            hint = f": {error}" if isinstance(error, ArgumentError) else ""
        raise ArgumentError(f"{called} is not in gpucnn{hint}")
    if name == "RandomCrop":
        raise ArgumentError(f"{called}: {_CROPS}")
    if config.pop("data_format", None) == "channels_first":
        raise ArgumentError(f"{called} has its channels first: gpucnn has them last")
    policy = config.pop("dtype", None)
    stated = policy.get("config", {}).get("name") if isinstance(policy, dict) else policy
    if stated not in (None, "float32"):
        raise ArgumentError(f"{called} computes in {one_line(stated)}: gpucnn computes in float32")
    return {"kind": "Layer", "class_name": name, "config": _arguments("Layer", name, config, called)}


def settings(description: Description) -> Description:
    """What `Sequential.compile_from_config` takes, for the `compile_config` of a file."""
    if description.get("loss_weights"):
        raise ArgumentError("it has loss_weights: a Sequential has one loss")
    return {
        "optimizer": _from_keras(description["optimizer"], "its optimizer"),
        "loss": _from_keras(description["loss"], "its loss"),
        "metrics": _metrics(description.get("metrics")),
        "weighted_metrics": _metrics(description.get("weighted_metrics")),
        "steps_per_execution": description.get("steps_per_execution") or 1,
    }


def _metrics(values: Any) -> list[Any]:
    if values is not None and not isinstance(values, list):
        raise ArgumentError("its metrics are not a list")
    return [_from_keras(value, "one of its metrics") for value in values or []]


def _from_keras(value: Any, owner: str) -> Any:
    if isinstance(value, list):
        return [_from_keras(item, owner) for item in value]
    if not isinstance(value, dict):
        return value
    module, name, config = value.get("module"), value.get("class_name"), value.get("config")
    kind = _KINDS.get(_module(module))
    if not isinstance(name, str) or not isinstance(config, dict) or kind is None or kind == "Layer":
        raise ArgumentError(
            f"{owner} uses {one_line(name)} of {one_line(module)}, and nothing in a file is run or imported: only "
            "objects of Keras that gpucnn has are read"
        )
    if built_in(kind, name) is None:
        raise ArgumentError(f"{owner} uses {one_line(name)}, which gpucnn does not have")
    return {"kind": kind, "class_name": name, "config": _arguments(kind, name, config, owner)}


def _module(name: Any) -> str:
    """The public module of a class; optimizers may be named by that of a backend of Keras."""
    internal = isinstance(name, str) and name.startswith("keras.src.backend.") and ".optimizers." in name
    return "keras.optimizers" if internal else str(name)


def _arguments(kind: str, name: str, config: Description, owner: str) -> Description:
    """The arguments that gpucnn's class takes; others must be without effect."""
    taken = built_in(kind, name) or []
    kept = {}
    for key, value in config.items():
        if key in taken:
            kept[key] = _from_keras(value, owner)
        elif key not in _WITHOUT_EFFECT and value not in (None, False):
            raise ArgumentError(f"{owner} has {one_line(key)}={one_line(repr(value))}, which gpucnn does not have")
    return kept
