"""The commands export and import: models for and from other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..devices.free_memory import readable
from ..errors import ArgumentError
from ..exchange import onnx, torch
from ..files import MODEL_SUFFIX
from ..models import formats
from ..models.loading import load_model
from ..models.sequential import Sequential
from ..runs.trained_run import load_run
from .group import AS_JSON, RUN, main, options
from .screen import print_json, print_pairs


@main.command()
@options(
    RUN,
    click.argument("file"),
    click.option(
        "--prepare", is_flag=True, help="ONNX: take raw uint8 images; scaling and inversion are part of the file."
    ),
    AS_JSON,
)
def export(run: str, file: str, prepare: bool, as_json: bool) -> None:
    """Write the model of RUN (a run, or a file of a model) to FILE for another library.

    The suffix of FILE names the format: .onnx for onnxruntime and most other libraries, .keras for
    Keras 3, .py for a module of PyTorch, whose weights are written to a second file next to it.

    Keys of --json: file, bytes, input (dtype, shape), output (dtype, shape), classes.
    """
    model, path = _model_of(run), Path(file)
    how: dict[str, Any] = {"prepare": True} if prepare else {}
    model.export(path, **how)
    classes = model.signature.classes if model.signature else None
    answer: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "input": {"dtype": "uint8" if prepare else "float32", "shape": _shape(model.input_shape, path)},
        "output": {"dtype": "float32", "shape": _shape(model.output_shape, path)},
        "classes": classes,
    }
    if as_json:
        return print_json(answer)
    values = "raw images of 0 … 255" if prepare else _input_values(model)
    first, *others = (line.format(file=path.as_posix(), stem=path.stem) for line in _USE[formats.suffix_of(path)])
    return print_pairs(
        ("written", f"{path}, {readable(answer['bytes'])}{_WITH.get(formats.suffix_of(path), '')}"),
        ("input", f"{_array(answer['input'])}{values and ': '}{values}"),
        ("output", f"{_array(answer['output'])}{': ' if classes else ''}{_shortened(classes or [])}"),
        ("use", first),
        *(("", line) for line in others),
    )


@main.command("import")
@options(
    click.argument("file"),
    click.argument("out", required=False),
    click.option("--channels-last", is_flag=True, help="ONNX: take images as (N, H, W, C), not (N, C, H, W)."),
    AS_JSON,
)
def import_(file: str, out: str | None, channels_last: bool, as_json: bool) -> None:
    """Read the model in FILE of another library, and write it to OUT.

    FILE is an .onnx or .keras file whose model is one path of layers. The default of OUT is the name
    of FILE with .safetensors.

    Keys of --json: file, layers, parameters, input_shape, output_shape, classes.
    """
    path = Path(out or Path(file).with_suffix(MODEL_SUFFIX).name)
    if formats.find(file) is None:
        kinds = [suffix for suffix in formats.suffixes_for("load") if suffix != MODEL_SUFFIX]
        raise ArgumentError(f"{file}: files with the suffix {' or '.join(kinds)} are imported")
    formats.new_path(path, overwrite=False)
    model = onnx.load(file, channels_last=True) if channels_last else load_model(file)
    model.save(path)
    if as_json:
        return print_json(
            {
                "file": str(path),
                "layers": len(model.layers),
                "parameters": model.count_params(),
                "input_shape": list(model.input_shape),
                "output_shape": list(model.output_shape),
                "classes": model.signature.classes if model.signature else None,
            }
        )
    shapes = [_array({"dtype": "float32", "shape": shape}) for shape in (model.input_shape, model.output_shape)]
    return print_pairs(
        ("written", f"{path}, {len(model.layers)} layers, {model.count_params():,} parameters"),
        ("input", shapes[0]),
        ("output", shapes[1]),
        ("layers", f"gpucnn summary {path}"),
        ("use", f'model = gpucnn.models.load_model("{path.as_posix()}"); y = model.predict(x)'),
    )


_USE = {
    ".keras": ['model = keras.saving.load_model("{file}")', "y = model.predict(x)"],
    ".py": ["from {stem} import load", "y = load()(torch.from_numpy(x))"],
    ".onnx": ['session = onnxruntime.InferenceSession("{file}")', 'y = session.run(None, {{"input": x}})[0]'],
}
"""How a file is used, in Python."""


_WITH = {".py": f", with its weights in *{torch.WEIGHTS_SUFFIX}"}
"""What is written next to a file."""


def _shape(shape: Any, path: Path) -> list[int | None]:
    """A model's shape as the file has it: with channels first in PyTorch."""
    batch, *extents = shape
    return [batch, extents[-1], *extents[:-1]] if formats.suffix_of(path) == ".py" else [batch, *extents]


def _model_of(run: str) -> Sequential:
    if not (Path(run) / "run.json").exists():
        return load_model(run)
    trained = load_run(run)
    trained.model.signature = trained.signature
    return trained.model


def _input_values(model: Sequential) -> str:
    """How pixels become the model's input."""
    signature = model.signature
    if signature is None or signature.divisor is None:
        return ""
    centred = ", cut out and centred" if signature.centre else ""
    turned = ", light on dark (inverted if the image is dark on light)" if signature.invert else ""
    return f"pixels of 0 … 255 divided by {signature.divisor:g}{turned}{centred}"


def _array(array: dict[str, Any]) -> str:
    extents = ", ".join("N" if extent is None else str(extent) for extent in array["shape"])
    return f"{array['dtype']} ({extents})"


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f", … ({len(names)} classes)" if len(names) > 10 else "")
