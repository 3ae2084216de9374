"""An ONNX file as a Sequential: its nodes must be layers that gpucnn has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...config import check_name
from ...errors import FileError, GpucnnError
from ...layers import Input
from ...layers.layer import at_most
from ...models import saving
from ...models.sequential import Sequential
from ...models.signature import Signature
from .building import Stack
from .paths import Flow, PathReader
from .reading import Source, read


def load(filepath: Any, *, channels_last: bool = False) -> Sequential:
    """The model in an ONNX file, with its weights.

    It takes and returns arrays in the file's order of axes, with `Permute` layers where gpucnn's
    differs.

    channels_last  the model takes images as (N, H, W, C) though the file takes (N, C, H, W); outputs
                   keep the file's order

    The names of the classes and the preparation are restored if gpucnn wrote the file. Nothing in
    the file is executed. Branches that part in one tensor and meet in one Add or Concat become
    Residual and Parallel layers. Raises `FileError` for a damaged file, other branches, and nodes that
    no layer of gpucnn stands for.
    """
    path = Path(filepath)
    source = read(path)
    return _Importer(path, source, channels_last).model()


class _Importer:
    def __init__(self, path: Path, source: Source, channels_last: bool) -> None:
        self.path, self.source = path, source
        turned = channels_last and len(source.shape) > 1
        if turned and source.producer == "gpucnn":
            raise FileError(f"{path} takes images with channels last already: leave channels_last out")
        shape = (*source.shape[1:], source.shape[0]) if turned else source.shape
        most = 4 * sum(array.size for array in source.constants.values())
        self.stack = Stack(shape, channels_first=turned, most=most)

    def model(self) -> Sequential:
        flow = Flow(self.path, self.source)
        PathReader(flow, self.stack, self.source.nodes, self.source.input, self.source.output).read()
        with saving.described_by(self.path):
            self.stack.finish()
            with at_most(sum(array.size for arrays in self.stack.weights for array in arrays)):
                model = Sequential([Input(self.stack.input_shape), *self.stack.layers], name=self._name())
            model.set_weights([array for arrays in self.stack.weights for array in arrays])
            model.signature = self._signature(model)
        return model

    def _name(self) -> str | None:
        name = self.path.stem.replace("-", "_")
        try:
            check_name(name)
        except GpucnnError:
            return None
        return name

    def _signature(self, model: Sequential) -> Signature | None:
        text = self.source.metadata.get("signature")
        if text is None:
            return None
        signature = Signature.from_json(saving.parse(text))
        signature.check_fits(model.input_shape, model.output_shape)
        return replace(signature, divisor=1.0, invert=False) if self.source.pixels else signature
