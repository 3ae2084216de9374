"""The table that `model.summary()` prints, in Keras' columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import Any

from ..errors import ArgumentError, printable
from ..layers.layer import Layer
from .model import Model


def summarize(
    model: Model,
    line_length: int | None,
    positions: Any,
    print_fn: Callable[[str], Any] | None,
    expand_nested: bool,
    show_trainable: bool,
    layer_range: Any,
    show_flops: bool,
) -> None:
    """Print the model's table, or pass it to `print_fn` as one string."""
    import shutil

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if positions is not None:
        raise ArgumentError("summary(positions=...) is not supported: use line_length= for the width")
    layers = model.layers if layer_range is None else _between(model.layers, *layer_range)
    width = line_length or max(60, min(88, shutil.get_terminal_size((92, 24)).columns - 4))
    table = Table(width=width)
    table.add_column(_HEAD[0], ratio=40, overflow="fold")
    table.add_column(_HEAD[1], ratio=30, overflow="fold")
    table.add_column(_HEAD[2], justify="right", ratio=18, overflow="fold")
    if show_flops:
        table.add_column("FLOPs / image", justify="right", ratio=20)
    if show_trainable:
        table.add_column("Trainable", justify="center", ratio=14)
    for depth, layer in _rows(layers) if expand_nested else ((0, layer) for layer in layers):
        row = _cells(layer, depth)
        if show_flops:
            row.append(f"{layer.flops(layer.input_shape):,}" if layer.input_shape is not None else "?")
        if show_trainable:
            row.append(("Y" if layer.trainable else "N") if layer.weights else "-")
        table.add_row(*map(Text, row))
    console = Console(width=width, file=None, highlight=False)
    with console.capture() as capture:
        console.print(printable(f'Model: "{model.name}"'), markup=False)
        console.print(table)
        for line in _totals(model, show_flops):
            console.print(line, markup=False)
    text = capture.get()
    if print_fn is None:
        print(text, end="")
    else:
        print_fn(text)


def as_html(model: Model) -> str:
    """The table as HTML, for notebooks: all layers, also those inside others, and the totals."""
    rows = [f"<tr>{''.join(f'<th>{escape(title)}</th>' for title in _HEAD)}</tr>"]
    for depth, layer in _rows(model.layers):
        name, shape, parameters = map(escape, _cells(layer, 0))
        rows.append(
            f'<tr><td style="text-align:left;padding-left:{0.5 + 1.5 * depth}em">{name}</td>'
            f'<td style="text-align:left">{shape}</td><td>{parameters}</td></tr>'
        )
    totals = "<br>".join(escape(line.strip()) for line in _totals(model, show_flops=True))
    return f"<p>Model: <b>{escape(model.name)}</b></p><table>{''.join(rows)}</table><p>{totals}</p>"


_HEAD = ("Layer (type)", "Output Shape", "Param #")

_INDENT = "  "


def _cells(layer: Layer, depth: int) -> list[str]:
    parameters = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
    return [printable(f"{_INDENT * depth}{layer.name} ({type(layer).__name__})"), _shape(layer), parameters]


def _rows(layers: Iterable[Layer], depth: int = 0) -> Iterator[tuple[int, Layer]]:
    """The layers, each followed by those that it holds, and how deep they lie."""
    for layer in layers:
        yield depth, layer
        yield from _rows(layer.inner, depth + 1)


def flops_per_image(model: Model) -> int:
    """Floating-point operations of one forward pass for one image."""
    return sum(layer.flops(layer.input_shape) for layer in model.layers if layer.input_shape is not None)


def _totals(model: Model, show_flops: bool) -> list[str]:
    if not model.built:
        return [" The model is not built: put Input((28, 28, 1)) first, call build((None, 28, 28, 1)), or fit it once"]
    trainable = sum(w.size for w in model.trainable_weights)
    total = model.count_params()
    lines = [
        f" Total params: {total:,} ({_size(total)})",
        f" Trainable params: {trainable:,} ({_size(trainable)})",
        f" Non-trainable params: {total - trainable:,} ({_size(total - trainable)})",
    ]
    if show_flops:
        lines.append(f" FLOPs per image, forward: {flops_per_image(model):,}")
    return lines


def _shape(layer: Layer) -> str:
    return "?" if layer.output_shape is None else str(layer.output_shape)


def _size(parameters: int) -> str:
    size = 4.0 * parameters
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"


def _between(layers: list[Layer], first: str, last: str) -> list[Layer]:
    names = [layer.name for layer in layers]
    for name in (first, last):
        if name not in names:
            raise ArgumentError(f"layer_range: there is no layer {name!r}; the model has {', '.join(names)}")
    return layers[names.index(first) : names.index(last) + 1]
