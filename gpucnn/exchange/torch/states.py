"""A model's weights as the `state_dict` of the module in PyTorch, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...arguments import numbers
from ...errors import ArgumentError, FileError, one_line
from ...files import check_regular, explained
from ...models.model import Model
from .modules import Modules, Slot

_COUNTER = "num_batches_tracked"
"""A tensor of PyTorch's batch normalisation that gpucnn has no use for."""


def state_dict(model: Model) -> dict[str, np.ndarray]:
    """The weights by PyTorch's names and in its layouts, as new float32 arrays.

    The names are those of the module that `export` writes: `<layer>.weight` and so on. Raises
    `ArgumentError` for layers without a counterpart.
    """
    return _arrays(Modules(model))


def _arrays(modules: Modules) -> dict[str, np.ndarray]:
    arrays = {}
    for name, slot in modules.slots.items():
        if slot.written:
            arrays[name] = slot.array()
        if name.endswith(".running_var"):
            arrays[name.replace("running_var", _COUNTER)] = np.array(0, np.int64)
    return arrays


def load_state_dict(model: Model, state: Any) -> None:
    """Copy the weights of a PyTorch module of the same layers into a model.

    state  what `module.state_dict()` returns, or a .safetensors file of it

    Names as `state_dict` gives them are matched by name, all others module by module in their order;
    of a file, whose order is lost, names are sorted with their numbers by value. None is changed
    unless all fit. Raises `ArgumentError` or `FileError` with the first tensor that does not fit.
    """
    tensors, origin = _tensors(state)
    slots = Modules(model).slots
    if not _needed(slots) <= tensors.keys() <= slots.keys():
        tensors = _matched(tensors, slots, origin)
    values = {}
    for name, array in tensors.items():
        slot = slots[name]
        if array.shape != slot.shape:
            raise ArgumentError(f"{origin}: the tensor for {name} has shape {array.shape}, and {slot.shape} is needed")
        if slot.weight is not None:
            values[name] = slot.from_torch(array.astype(np.float32))
        elif not (array == slot.constant).all():
            raise ArgumentError(
                f"{origin}: the layer has nothing that {name} could be copied to, and it is not constant"
            )
    for name, value in values.items():
        weight = slots[name].weight
        assert weight is not None
        weight.assign(value)


def _tensors(state: Any) -> tuple[dict[str, np.ndarray], str]:
    """The tensors by name without counters, and what they are called in messages."""
    origin = "the state_dict"
    if isinstance(state, (str, os.PathLike)):
        path, origin = Path(state), str(state)
        if path.suffix != ".safetensors":
            raise ArgumentError(
                f"{path}: PyTorch's own files can run any program when they are read; load it with torch.load(...) and "
                "give module.state_dict(), or save that with safetensors.torch.save_file"
            )
        state = _natural(_read(path))
    if not isinstance(state, Mapping):
        raise ArgumentError(
            f"load_state_dict needs a dict of tensors or a .safetensors file, and got {type(state).__name__}"
        )
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(_COUNTER)}
    return {name: numbers(one_line(name), tensor) for name, tensor in kept.items()}, origin


def _read(path: Path) -> dict[str, np.ndarray]:
    import safetensors.numpy

    with explained("read", path):
        check_regular(path)
        data = path.read_bytes()
    try:
        return safetensors.numpy.load(data)
    except Exception as error:
        raise FileError(f"{path} is not a safetensors file, or it is damaged: {one_line(error)}") from error


def _natural(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By name, with numbers by value: layer 2 before layer 10."""
    return dict(
        sorted(tensors.items(), key=lambda item: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", item[0])])
    )


def _matched(tensors: dict[str, np.ndarray], slots: dict[str, Slot], origin: str) -> dict[str, np.ndarray]:
    """The tensors under the names of the slots, module by module in their order."""
    theirs, ours = _by_module(tensors), _by_module(slots)
    if len(theirs) != len(ours):  # normalisations without scale and shift may have tensors, or none
        ours = {layer: words for layer, words in ours.items() if _needed(words)}
    if len(theirs) != len(ours):
        raise ArgumentError(
            f"{origin} has {len(theirs)} modules with weights, and the model has {len(ours)} layers with weights"
        )
    matched: dict[str, np.ndarray] = {}
    for (module, words), (layer, accepted) in zip(theirs.items(), ours.items(), strict=True):
        needed = _needed(accepted)
        if not needed <= words.keys() <= accepted.keys():
            raise ArgumentError(
                f"{origin}: the module {one_line(module)} has {one_line(', '.join(words))}, and the layer {layer} "
                f"needs {', '.join(word for word in accepted if word in needed)}: give the tensors in the order of the "
                "layers"
            )
        matched |= {f"{layer}.{word}": array for word, array in words.items()}
    return matched


def _needed(slots: dict[str, Slot]) -> set[str]:
    """The names of tensors without which a weight would keep its values."""
    return {name for name, slot in slots.items() if slot.weight is not None}


def _by_module(names: dict[str, Any]) -> dict[str, dict[str, Any]]:
    modules: dict[str, dict[str, Any]] = {}
    for name, value in names.items():
        module, _, word = name.rpartition(".")
        modules.setdefault(module, {})[word] = value
    return modules
