"""A model as a Python file with a module of PyTorch, and its weights next to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import FileError
from ...files import write_atomically
from ...models.model import Model
from ...version import __version__
from .helpers import HELPERS
from .modules import Modules
from .states import _arrays

WEIGHTS_SUFFIX = ".weights.safetensors"
"""The weights of `model.py` lie in `model.weights.safetensors`."""


def export(model: Model, filepath: Any) -> None:
    """Write `<name>.py`, with the class `Model` and the function `load`, and
    `<name>.weights.safetensors`, its `state_dict`.

    The module takes float32 (N, C, …), channels first as usual in PyTorch, and returns what the
    model returns, with channels first where there are more than two axes. In training it is not
    equal: PyTorch's moving variance is that of a sample. Raises `ArgumentError` for layers without a
    counterpart, `FileError` if `<name>.py` is another program.
    """
    import safetensors.numpy

    path, modules = Path(filepath), Modules(model)
    if path.exists() and not path.read_bytes().startswith(_TEMPLATE[: _TEMPLATE.index("{")].encode()):
        raise FileError(f"{path} exists and is not a file that gpucnn exported: choose another name")
    text = source(model, modules)
    write_atomically(path.with_suffix(WEIGHTS_SUFFIX), safetensors.numpy.save(_arrays(modules)))
    write_atomically(path, text.encode())


def source(model: Model, modules: Modules) -> str:
    """The text of the Python file. Names of modules are word characters alone, those of classes literals."""
    lines = "".join(f'                    ("{name}", {constructor}),\n' for name, constructor in modules.lines)
    helpers = "\n".join(HELPERS[name] for name in sorted(modules.helpers))
    pools = "import torch.nn.functional as F\n" if "AveragePooling" in modules.helpers else ""
    classes = f"CLASSES = {model.signature.classes!r}\n\n" if model.signature is not None else ""
    return _TEMPLATE.format(
        version=__version__,
        input=_channels_first(model.input_shape),
        output=_channels_first(model.output_shape),
        torch="import torch\n" if "torch." in helpers else "",
        pools=pools,
        classes=classes,
        helpers=f"{helpers}\n" if helpers else "",
        lines=lines,
        suffix=WEIGHTS_SUFFIX,
    )


def _channels_first(shape: tuple[Any, ...]) -> str:
    _, *extents = shape
    return f"(N, {', '.join(map(str, [extents[-1], *extents[:-1]]))})"


_TEMPLATE = '''\
"""A model of gpucnn {version} as a module of PyTorch.

input   float32 {input}, channels first
output  float32 {output}
"""

from collections import OrderedDict
from pathlib import Path

{torch}{pools}from torch import nn

{classes}{helpers}
class Model(nn.Sequential):
    def __init__(self):
        super().__init__(
            OrderedDict(
                [
{lines}                ]
            )
        )


def load(path=Path(__file__).with_suffix("{suffix}")):
    """The model with its trained weights, for inference."""
    from safetensors.torch import load_file

    model = Model()
    model.load_state_dict(load_file(path))
    return model.eval()
'''
