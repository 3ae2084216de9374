"""Models from files, and copies of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..arguments import PathLike, checked
from ..config import check_names
from ..errors import ArgumentError, FileError
from ..files import MODEL_SUFFIX
from ..layers.layer import at_most
from . import formats, saving
from .saving import OPTIMIZER, WEIGHTS
from .sequential import Sequential
from .state import TrainingState


@checked
def load_model(
    filepath: PathLike, custom_objects: dict[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Sequential:
    """The model that `save` or `save_checkpoint` wrote, compiled if it was, unless compile=False.

    filepath  a .safetensors file; a run folder, whose model.safetensors is read (`gpucnn.load_run`
              also prepares images and names the classes); or a .keras or .onnx file

    Your own layers, losses and metrics are looked up in `custom_objects` and among the classes
    passed to `gpucnn.register`. Files hold no code, so `safe_mode` changes nothing. Raises
    `FileError` for anything but an intact file of gpucnn.
    """
    if foreign := formats.function_for(filepath, "load"):
        return foreign(Path(filepath), custom_objects=custom_objects, compile=compile)
    path = _model_file(saving.readable(filepath))
    content = saving.read(path)
    architecture, settings = content.document.get("architecture"), content.document.get("compile")
    if architecture is None:
        raise FileError(f"{path} holds weights alone: build the model and call model.load_weights(...)")
    tensors = content.below(WEIGHTS)
    with at_most(sum(array.size for array in tensors.values())), saving.described_by(path):
        if len(architecture["layers"]) > saving.MOST_LAYERS:
            raise ArgumentError(f"{len(architecture['layers'])} layers are more than {saving.MOST_LAYERS}")
        check_names([architecture, settings])
        model = Sequential.from_config(architecture, custom_objects)
        if not model.built:
            raise ArgumentError("the input shape is missing")
        saving.set_seeds(model, content.document["seeds"])
        model.signature = saving.signature_of(content.document, model)
        if compile and settings is not None:
            model.compile_from_config(settings, custom_objects)
        if "draws" in content.document:
            model.training_state = TrainingState.drawing_on(content.document["draws"])
    slots = content.below(OPTIMIZER) if model.compiled else {}
    saving.restore(path, tensors | slots, saving.arrays_of(model, with_optimizer=bool(slots)), model)
    return model


def _model_file(path: Path) -> Path:
    """The file to read: of a folder, the model that a finished run wrote."""
    inside = path / f"model{MODEL_SUFFIX}"
    if not path.is_dir() or inside.exists():
        return inside if path.is_dir() else path
    cure = f"give a {MODEL_SUFFIX} file"
    if (path / "run.json").exists():
        cure = f"its training did not finish; use gpucnn.load_run({str(path)!r}), which takes the newest checkpoint"
    raise FileError(f"{path} is a folder without {inside.name}: {cure}")


@checked
def clone_model(model: Sequential) -> Sequential:
    """A model of the same architecture with new weights."""
    return Sequential.from_config(model.get_config())
