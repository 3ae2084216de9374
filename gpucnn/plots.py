"""Pictures: learning curves, confusion matrix, predictions, filters, feature maps, changed images,
what predictions rest on, and what the classic filters do to an image.

Each function returns a `Picture`, a matplotlib figure that a notebook shows and that `save` writes
to a file. Nothing touches pyplot or matplotlib's global state, so pictures can be drawn without a
screen and do not disturb a user's figures.

>>> from gpucnn import plots
>>> plots.confusion_matrix(y_test, model.predict(x_test), classes).save("confusions.png")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from .callbacks.curves import BLUE, GREY, ORANGE, RED, Picture, font_for, warn_of_missing_glyphs
from .callbacks.curves import learning_curves as learning_curves
from .devices import storage
from .errors import ArgumentError, DataError, ShapeError
from .layers import Conv2D
from .layers.augmentation import Augmentation
from .layers.layer import every
from .layers.parallel import outputs
from .metrics.report import class_numbers, count_confusions
from .models import attribution
from .models.model import Model
from .ops.conv2d import conv2d
from .ops.window import positions, same_padding, span

_MISTAKES = 20
_ROWS, _COLUMNS = 5, 10
_COLUMNS_OF_EXPLANATIONS = "image,\ntrue class", "saliency", "Grad-CAM:\npredicted", "Grad-CAM: true,\nor second guess"
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16
"""The binomial approximation of a Gaussian with a standard deviation of one pixel."""
_BLUES = LinearSegmentedColormap.from_list("right", ["#F2F8FC", BLUE])
_ORANGES = LinearSegmentedColormap.from_list("wrong", ["#FDF1E8", ORANGE])

FILTERS: dict[str, Any] = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "edges": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "Sobel, left to right": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "box blur": np.full((3, 3), 1 / 9, np.float32),
    "Gaussian blur": np.outer(_BINOMIAL, _BINOMIAL),
}
"""The classic filters, as a convolution layer would hold them: odd numbers of rows and columns."""


def confusion_matrix(
    y_true: Any, y_pred: Any, classes: Sequence[str] | None = None, title: str = "", note: str = ""
) -> Picture:
    """Rows are true classes, columns predictions; blue is the share that is right, orange wrong."""
    counts = count_confusions(y_true, y_pred, None if classes is None else len(classes))
    names, family, key = _labels(classes, len(counts))
    size = float(np.clip(0.5 * len(counts) + 1.5, 4.0, 11.0))
    summary = f"{np.trace(counts):,} of {counts.sum():,} right"
    picture = Picture(size + 0.6, size + 0.4, f"{title}: {summary}" if title else summary, note)
    picture.key = key
    axes = picture.subplots()
    diagonal = np.eye(len(counts), dtype=bool)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = np.where(diagonal, 0, counts)
    axes.imshow(np.where(diagonal, share, np.nan), cmap=_BLUES, vmin=0, vmax=1, interpolation="nearest")
    mistakes = np.where(wrong > 0, wrong, np.nan)
    axes.imshow(mistakes, cmap=_ORANGES, vmin=0, vmax=max(1, wrong.max()), interpolation="nearest")
    if len(counts) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            dark = row == column and share[row, column] > 0.9  # black is easier to read on every orange
            colour = ("white" if dark else "black") if count else "0.75"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=9, color=colour)
    ticks = range(0, len(counts), -(-len(counts) // 40))
    shown = [names[i] for i in ticks]
    axes.set_xticks(ticks, shown, family=family, fontsize=9, parse_math=False)
    axes.set_yticks(ticks, shown, family=family, fontsize=9, parse_math=False)
    if max(map(len, shown)) > 3:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return picture


def predictions(
    x: np.ndarray,
    y_true: Any,
    probabilities: np.ndarray,
    classes: Sequence[str] | None = None,
    title: str = "",
    note: str = "",
) -> Picture:
    """A sheet of images and predictions: mistakes first, by confidence, framed in red.

    x               (n, H, W, C), uint8 or of [0, 1]
    y_true          (n,) class numbers or (n, classes) one-hot rows
    probabilities   (n, classes), what `predict` returned
    """
    true = _matching(x, y_true, probabilities)
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    names, family, key = _labels(classes, probabilities.shape[1])
    wrong = np.flatnonzero(predicted != true)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:_MISTAKES]
    others = np.flatnonzero(predicted == true)[: _ROWS * _COLUMNS - len(worst)]
    names = [name if len(name) <= 12 else f"{name[:11]}…" for name in names]
    long = max(map(len, names)) > 3
    summary = f"{len(wrong):,} of {len(x):,} wrong"
    if len(wrong):
        summary += f" ({'framed' if len(wrong) == len(worst) else f'the {len(worst)} surest framed'}: true → predicted)"
    picture = Picture(11, 8.1 if long else 7.2, f"{title}: {summary}" if title else summary, note)
    picture.key = key
    axes = _board(picture.subplots(), _ROWS, _COLUMNS, pitch := 1.36 if long else 1.2)
    for place, index in enumerate([*worst, *others]):
        is_wrong = predicted[index] != true[index]
        label = f"{names[predicted[index]]} ({_percent(sure[index])})"
        if is_wrong:
            label = f"{names[true[index]]}{chr(10) if long else ' '}→ {label}"
        left, right, bottom, top = extent = _square(place, _COLUMNS, pitch)
        _show(axes, x[index], extent)
        if is_wrong:
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=RED, lw=2.5))
        axes.text(
            (left + right) / 2,
            top - 0.05,
            label,
            color=RED if is_wrong else "black",
            family=family,
            fontsize=7 if long else 8,
            ha="center",
            va="bottom",
            linespacing=1.1,
            parse_math=False,
        )
    return picture


def filters(model: Model, title: str = "", note: str = "") -> Picture:
    """The filters of the first convolution, in colour for RGB, else averaged over channels."""
    layer = next(_convolutions(model), None)
    if layer is None:
        raise ArgumentError("the model has no two-dimensional convolution whose filters could be drawn")
    weight = layer.get_weights()[0]
    count, columns = weight.shape[3], min(8, weight.shape[3])
    rows = -(-count // columns)
    picture = Picture(0.9 * columns + 1.2, 0.9 * rows + 0.8, title or f"filters of {layer.name}", note)
    axes = _board(picture.subplots(), rows, columns)
    colours = weight.shape[2] == 3
    shown = weight if colours else weight.mean(axis=2, keepdims=True)
    bound = float(np.abs(shown).max()) or 1.0
    for index in range(count):
        tile = 0.5 + 0.5 * shown[..., index] / bound if colours else shown[..., index]
        drawn = _show(axes, tile, _square(index, columns), cmap="RdBu_r", vmin=-bound, vmax=bound)
    if not colours:
        bar = picture.colorbar(drawn, ax=axes, shrink=0.8, aspect=30)
        bar.set_label("weight" if weight.shape[2] == 1 else "weight, mean over channels", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    return picture


def feature_maps(
    model: Model,
    image: np.ndarray,
    title: str = "",
    note: str = "",
    classes: Sequence[str] | None = None,
    y_true: int | None = None,
) -> Picture:
    """The first 16 output maps of each convolution for one image (H, W, C), and of each layer that holds
    convolutions, such as a residual block.

    classes  the names of the classes, for what the model predicts
    y_true   the number of the class of the image
    """
    drawn = []
    for name, layer, y in outputs(model.layers, np.asarray(image, np.float32)[None]):
        scores = y
        if any(isinstance(part, Conv2D) for part in every([layer])):
            drawn.append((name, y[0]))
    if not drawn:
        raise ArgumentError("the model has no two-dimensional convolution whose maps could be drawn")
    rows = [-(-min(16, maps.shape[2]) // 8) for _, maps in drawn]
    picture = Picture(9.4, 0.9 * sum(rows) + 0.3 * len(rows) + 0.6, title or "feature maps of one image", note)
    grid = picture.add_gridspec(len(drawn), 2, width_ratios=[2, 8], height_ratios=rows)
    axes = picture.add_subplot(grid[:, 0])
    _show(axes, image)
    axes.set_axis_off()
    names, family, picture.key = _labels(classes, scores.shape[-1])
    labels = ["image"] if y_true is None else [f"true: {names[y_true]}"]
    if scores.ndim == 2 and scores.shape[1] > 1:
        softmax = getattr(getattr(model.layers[-1], "activation", None), "name", "") == "softmax"
        share = f" ({_percent(float(scores[0].max()))})" if softmax else ""
        labels.append(f"predicted: {names[int(scores[0].argmax())]}{share}")
    axes.set_title("\n".join(labels), fontsize=9, family=family, parse_math=False)
    for strip, (name, maps), height in zip(range(len(drawn)), drawn, rows):
        shown = min(16, maps.shape[2])
        axes = _board(picture.add_subplot(grid[strip, 1]), height, 8)
        axes.set_title(f"{name}: {shown} of {maps.shape[2]} maps, {maps.shape[0]} × {maps.shape[1]}", fontsize=9)
        for index in range(shown):
            _show(axes, maps[..., index, None], _square(index, 8), cmap="viridis")
    return picture


def augmented(model: Model, images: np.ndarray, title: str = "", note: str = "") -> Picture:
    """Up to eight images (N, H, W, C), a row for each: itself, and seven times as the layers of data
    augmentation show it to the model in training."""
    chosen = [layer for layer in model.layers if isinstance(layer, Augmentation)]
    if not chosen:
        raise ArgumentError("the model has no layer that changes images at random, such as layers.RandomFlip")
    x = np.asarray(images[:8], np.float32)
    columns = [x]
    for _ in range(7):
        seen = x
        for layer in chosen:
            seen = layer(seen, training=True)
        columns.append(seen)
    picture = Picture(7.4, 0.9 * len(x) + 0.8, title or "training images, changed at random", note)
    axes = _board(picture.subplots(), len(x), 8)
    for column, shown in enumerate(columns):
        for row, image in enumerate(shown):
            _show(axes, image, _square(8 * row + column, 8))
    axes.text(0.5, -0.05, "image", ha="center", va="bottom", fontsize=9)
    axes.text(4.5, -0.05, "as training sees it", ha="center", va="bottom", fontsize=9)
    return picture


def explanations(
    model: Model,
    x: np.ndarray,
    y_true: Any,
    probabilities: np.ndarray,
    classes: Sequence[str] | None = None,
    title: str = "",
    note: str = "",
) -> Picture:
    """What predictions rest on: up to four mistakes, the surest first, then a right image of each class.

    Each of at most 14 images has its saliency, the Grad-CAM of the predicted class, and that of the
    true class, or of the second guess where the prediction is right. Each map has its own scale.

    x               (n, H, W, C), as the model takes them
    y_true          (n,) class numbers or (n, classes) one-hot rows
    probabilities   (n, classes), what `predict` returned
    """
    true = _matching(x, y_true, probabilities)
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    predicted, sure = ranked[:, 0], probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    right = np.flatnonzero(predicted == true)
    firsts = sorted(right[np.unique(true[right], return_index=True)[1]], key=lambda index: true[index])
    chosen = np.array([*wrong[np.argsort(-sure[wrong], kind="stable")][:4], *firsts][:14], np.int64)
    other = np.where(predicted == true, ranked[:, 1], true)[chosen]
    images, guess = np.asarray(x[chosen], np.float32), predicted[chosen]
    slopes = attribution.saliency(model, images, guess)
    maps = attribution.grad_cam(model, images, guess), attribution.grad_cam(model, images, other)
    names, family, key = _labels(classes, probabilities.shape[1])
    names = [name if len(name) <= 12 else f"{name[:11]}…" for name in names]
    rows = -(-len(chosen) // 2)
    picture = Picture(11, 1.48 * rows + 1.1, title or "what predictions rest on", note)
    picture.key = key
    axes = _board(picture.subplots(), rows, 8.6, pitch := 1.2)
    for place, (index, image) in enumerate(zip(chosen, images)):
        row, start = place % rows, 4.6 * (place // rows)
        cells = [(start + i + 0.03, start + i + 0.97, row * pitch + 0.97, row * pitch + 0.03) for i in range(4)]
        _show(axes, image, cells[0])
        _show(axes, slopes[place][..., None], cells[1], cmap="inferno")
        texts = [names[true[index]], "", *("" for _ in maps)]
        for column, (each, number) in enumerate(zip(maps, (guess[place], other[place])), 2):
            _show(axes, image.mean(axis=2, keepdims=True), cells[column])
            style: dict[str, Any] = {"cmap": "inferno", "alpha": 0.6, "interpolation": "bilinear", "vmin": 0}
            axes.imshow(each[place], extent=cells[column], vmax=float(each[place].max()) or 1.0, **style)
            texts[column] = f"{names[number]} ({_percent(probabilities[index, number])})"
        for cell, label in zip(cells, texts):
            middle, top = (cell[0] + cell[1]) / 2, cell[3] - 0.03
            colour = RED if predicted[index] != true[index] else "black"
            where: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8}
            axes.text(middle, top, label, color=colour, family=family, parse_math=False, **where)
    for start in (0.0, 4.6)[: 1 + (len(chosen) > rows)]:
        for column, heading in enumerate(_COLUMNS_OF_EXPLANATIONS):
            axes.text(start + column + 0.5, -0.2, heading, ha="center", va="bottom", fontsize=8, color=GREY)
    return picture


def filter_image(image: np.ndarray, weights: Any, flip: bool = False) -> np.ndarray:
    """An image through one filter by gpucnn's `conv2d`, each channel alone, float32 (H, W, C).

    image    (H, W) or (H, W, C); uint8 is divided by 255
    weights  (rows, columns), odd numbers of them
    flip     False for a cross-correlation, which convolution layers compute; True for a
             convolution as mathematics defines it, with the filter turned by 180 degrees

    The pixels of the rim are repeated outside, so that the rim does not look like an edge. Raises
    `ShapeError` for other shapes, `DataError` for values that are not finite.
    """
    pixels = image[..., None] if np.ndim(image) == 2 else np.asarray(image)
    if pixels.ndim != 3 or not pixels.size:
        raise ShapeError(f"an image of shape {np.shape(image)}: give (H, W) or (H, W, C)")
    window = np.asarray(weights, np.float32)
    if window.ndim != 2 or not all(extent % 2 for extent in window.shape):
        raise ShapeError(f"a filter of shape {window.shape}: give an odd number of rows and columns")
    for name, values in (("image", pixels), ("filter", window)):
        if not np.isfinite(values).all():
            raise DataError(f"the {name} holds values that are not finite numbers")
    x = pixels.astype(np.float32) / np.float32(255 if pixels.dtype == np.uint8 else 1)
    rows, columns = (extent // 2 for extent in window.shape)
    x = np.pad(x, ((rows, rows), (columns, columns), (0, 0)), mode="edge")[None]
    window = window[::-1, ::-1] if flip else window
    channels = x.shape[3]
    stack = np.ascontiguousarray(np.broadcast_to(window[..., None, None], (*window.shape, 1, channels)))
    settings = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": channels}
    return storage.get(conv2d(storage.put(x), storage.put(stack), **settings))[0]


def filtered(image: np.ndarray, title: str = "", note: str = "") -> Picture:
    """A sheet of what each of `FILTERS` does to an image (H, W) or (H, W, C), grey or RGB.

    Below each filter are the cross-correlation, which convolution layers compute, and the
    convolution, for which the filter is flipped: they differ where the filter is not symmetric.
    Results of filters whose weights add up to 0 are drawn around a middle grey.
    """
    rows = ("filter", "cross-correlation", "convolution\n(filter flipped)")
    height, width = image.shape[:2]
    side = 1.8 * min(height / width, 1.6)
    picture = Picture(1.9 * len(FILTERS) + 0.7, 2 * side + 2.8, title or "classic filters", note)
    grid = picture.subplots(3, len(FILTERS), squeeze=False, height_ratios=[1.4, side, side])
    for column, (name, weights) in enumerate(FILTERS.items()):
        window = np.asarray(weights, np.float32)
        _numbers(grid[0, column], window)
        grid[0, column].set_title(name, fontsize=10)
        for axes, flip in ((grid[1, column], False), (grid[2, column], True)):
            result = filter_image(image, window, flip)
            if abs(window.sum()) < 1e-6:
                result = 0.5 + 0.5 * result / max(float(np.abs(result).max()), 1e-6)
            _show(axes, np.clip(result, 0, 1), vmin=0, vmax=1)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, label in zip(grid[:, 0], rows):
        axes.set_ylabel(label, fontsize=10)
    return picture


def windows(size: int = 6, title: str = "", note: str = "") -> Picture:
    """What padding, strides, dilation and pooling do to an image of `size` × `size` cells: the first window
    (filled), the second one (framed), and the cells of the result that are computed from them."""
    picture = Picture(2.3 * len(_WINDOWS) + 0.3, 5.2, title or "from windows to the cells of the result", note)
    grid = picture.subplots(2, len(_WINDOWS), squeeze=False, height_ratios=[3, 2])
    for (upper, lower), (name, (window, stride, dilation, same)) in zip(grid.T, _WINDOWS.items()):
        pads = same_padding(size, window, stride, dilation) if same else (0, 0)
        reach, count = span(window, dilation), positions(size, window, stride, dilation, pads)
        if count < 2:
            raise ArgumentError(f"size={size}: two windows of {name} do not fit; give {reach + stride} or more")
        for axes, cells, zeros in ((upper, size + sum(pads), pads[0]), (lower, count, 0)):
            _board(axes, cells, cells)
            for row, column in np.ndindex(cells, cells):
                inside = zeros <= min(row, column) and max(row, column) < cells - zeros
                _cell(axes, row, column, facecolor="0.92" if inside else "white", edgecolor="0.7")
                if not inside:
                    axes.text(column + 0.5, row + 0.5, "0", ha="center", va="center", fontsize=8, color="0.5")
        for place, style in enumerate(
            ({"facecolor": ORANGE, "alpha": 0.6}, {"fill": False, "edgecolor": BLUE, "lw": 2})
        ):
            _cell(lower, 0, place, **style)
            for row, column in np.ndindex(window, window):
                _cell(upper, row * dilation, place * stride + column * dilation, **style)
        upper.set_title(name, fontsize=10)
        lower.set_title(f"⌊({size} − {reach} + {sum(pads)}) / {stride}⌋ + 1 = {count}", fontsize=9)
    return picture


_WINDOWS = {
    "3 × 3": (3, 1, 1, False),
    'padding="same"': (3, 1, 1, True),
    "strides=2": (3, 2, 1, False),
    "dilation_rate=2": (3, 1, 2, False),
    "pooling, 2 × 2": (2, 2, 1, False),
}
"""Window, stride, dilation, and whether zeros are put around."""


def _cell(axes: Axes, row: int, column: int, **style: Any) -> None:
    axes.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, **style))


def _numbers(axes: Axes, window: np.ndarray) -> None:
    """Draw the weights of one filter as numbers on their colours: whole numbers over a common divisor."""
    bound = float(np.abs(window).max()) or 1.0
    axes.imshow(window, cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
    divisor = next((n for n in (1, 9, 256) if np.allclose(window * n, np.rint(window * n), atol=1e-4)), None)
    for (row, column), weight in np.ndenumerate(window):
        label = f"{weight:.2g}" if divisor is None else f"{np.rint(weight * divisor):.0f}"
        colour = "white" if abs(weight) > 0.6 * bound else "black"
        size = 8 if len(window) > 3 else 10
        axes.text(column, row, label, ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlabel(f"/ {divisor}" if divisor and divisor > 1 else " ", fontsize=9)


def _matching(x: np.ndarray, y_true: Any, probabilities: np.ndarray) -> np.ndarray:
    """The class numbers of the images. Raises `ShapeError` unless there is one, and a prediction, for each."""
    true = class_numbers("y_true", y_true)
    if not len(x) == len(true) == len(probabilities):
        rows = f"{len(x)} images, {len(true)} labels, {len(probabilities)} predictions"
        raise ShapeError(f"{rows}: give one row for each image")
    return true


def _board(axes: Axes, rows: int, columns: float, pitch: float = 1.0) -> Axes:
    """An empty board of unit squares, the first at the top left, with `pitch` from row to row."""
    axes.set_axis_off()
    axes.set(xlim=(0, columns), ylim=((rows - 1) * pitch + 1, 1 - pitch), aspect="equal")
    return axes


def _square(place: int, columns: int, pitch: float = 1.0) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of a square on the board, a little smaller than 1."""
    column, row = place % columns, place // columns * pitch
    return column + 0.03, column + 0.97, row + 0.97, row + 0.03


def _show(axes: Axes, image: np.ndarray, extent: tuple[float, float, float, float] | None = None, **style: Any) -> Any:
    """Draw an image (H, W, C): three channels in colour, else the first one in `style`."""
    pixels = image[..., 0] if image.shape[2] != 3 else image if image.dtype == np.uint8 else np.clip(image, 0, 1)
    return axes.imshow(pixels, extent=extent, interpolation="nearest", **{"cmap": "gray", **style})


def _convolutions(model: Model) -> Iterator[Conv2D]:
    return (layer for layer in every(model.layers) if isinstance(layer, Conv2D))


def _percent(share: float) -> str:
    return "100 %" if share > 0.9995 else f"{100 * share:.0f} %"


def _labels(classes: Sequence[str] | None, count: int) -> tuple[list[str], str | None, list[str]]:
    """The names of the classes, a font that has them, and no key; where there is none, numbers and a key."""
    numbers = [str(i) for i in range(count)]
    names = numbers if classes is None else [str(name) for name in classes]
    family = font_for("".join(names))
    if family:
        return names, family, []
    warn_of_missing_glyphs(names)
    return numbers, None, [f"{number} {name}" for number, name in zip(numbers, names)]
