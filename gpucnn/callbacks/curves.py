"""Learning curves as a picture, and the class of all pictures of a run.

Nothing touches pyplot or matplotlib's global state, so pictures can be drawn without a screen and
do not disturb a user's figures.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..errors import ArgumentError, warn
from ..files import write_atomically

BLUE, ORANGE, RED, GREY = "#0072B2", "#D55E00", "#CC0000", "#555555"
"""Colours that colour-blind readers can distinguish (Okabe and Ito, "Color universal design",
2008). What is red is also said in words."""

_DISTINCT = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "black")
"""One colour for each run, of the same palette."""

_DPI = 120
_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)


_PLACEHOLDERS = ("Last Resort",)
"""Fonts that draw a box for every character."""
_warned: set[tuple[str, ...]] = set()
_unreadable: set[str] = set()


class Epochs(Protocol):
    """What `fit` returns: metrics by name, and the numbers of the epochs."""

    epoch: list[int]

    @property
    def history(self) -> dict[str, list[Any]]:
        """The values of each metric by epoch."""


class Picture(Figure):
    """A figure drawn by Agg, laid out so that nothing overlaps; a notebook shows it directly.

    `key` has the lines of a text that `save` writes next to the picture, as `<name>.txt`: what
    stands for class names that no installed font can draw.
    """

    key: Sequence[str] = ()

    def __init__(self, width: float, height: float, title: str = "", note: str = "") -> None:
        super().__init__(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(self)
        heading = "\n".join(line for line in (title, note) if line)
        if heading:
            family = font_for(heading)
            if family is None:
                heading = heading.encode("ascii", "replace").decode()
            self.suptitle(heading, fontsize=11, family=family, parse_math=False)

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write a PNG file atomically. Raises `FileError` with path and cause."""
        path = Path(path)
        write_atomically(path, self.png())
        if self.key:
            write_atomically(path.with_suffix(".txt"), "".join(f"{line}\n" for line in self.key).encode())
        return path

    _repr_png_ = png


def learning_curves(
    history: Epochs | Mapping[str, Sequence[float]],
    title: str = "",
    note: str = "",
    test: Mapping[str, float] = MappingProxyType({}),
) -> Picture:
    """Loss and metrics by epoch, counted from 1, one panel each, training and validation together.

    history   what `fit` returned, or a dictionary of lists such as `{"loss": […], "val_loss": […]}`
    test      values on the test images, such as `{"loss": 0.1, "accuracy": 0.97}`: a line across
    """
    values, epochs = (history, []) if isinstance(history, Mapping) else (history.history, history.epoch)
    names = [name for name in values if not name.startswith("val_") and name not in ("epoch", "learning_rate")]
    if not names or not len(values[names[0]]):
        raise ArgumentError("the history holds no epoch: train first")
    first = 1 + next(iter(epochs), 0)
    picture = Picture(4.2 * len(names), 3.4, title, note)
    for axes, name in zip(picture.subplots(1, len(names), squeeze=False)[0], names):
        for key, label, colour, line in ((name, "training", BLUE, "-"), (f"val_{name}", "validation", ORANGE, "--")):
            if key in values:
                axes.plot(
                    first + np.arange(len(values[key])),
                    values[key],
                    line,
                    color=colour,
                    label=label,
                    marker="o",
                    markersize=3,
                )
        if np.isfinite(test.get(name, np.nan)):
            axes.axhline(test[name], color=GREY, linestyle=":", label="test")
        axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(first - 0.5, first + len(values[name]) - 0.5)
        axes.legend(frameon=False)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    return picture


def compared_curves(histories: Mapping[str, Mapping[str, Sequence[float]]], title: str = "", note: str = "") -> Picture:
    """Loss and accuracy of several runs by epoch, a colour for each: training solid, validation dashed.

    histories   what `fit` returned as dictionaries of lists, by the name of the run
    """
    names = [name for name in ("loss", "accuracy") if any(name in history for history in histories.values())]
    if not names:
        raise ArgumentError("the histories hold neither loss nor accuracy: train first")
    picture = Picture(10, 4.2 + 0.22 * len(histories), title, note)
    colours = dict(zip(histories, itertools.cycle(_DISTINCT)))
    for axes, name in zip(picture.subplots(1, len(names), squeeze=False)[0], names):
        for run, history in histories.items():
            for key, line in ((name, "-"), (f"val_{name}", "--")):
                if key in history:
                    epochs = 1 + np.arange(len(history[key]))
                    axes.plot(epochs, history[key], line, color=colours[run], marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    lines = [Line2D([], [], color=colour) for colour in colours.values()]
    legend = picture.legend(lines, list(histories), loc="outside lower left", frameon=False, fontsize=9)
    for label in legend.get_texts():
        label.set(family=font_for(label.get_text()), parse_math=False)
    return picture


def font_for(text: str) -> str | None:
    """An installed font that has all these characters: one of the usual ones, else any other.

    matplotlib keeps a list of fonts from its first use on. Where none of them fits, those that were
    installed since are added to it for this process.
    """
    family = _known_font(text)
    return _known_font(text) if family is None and _add_new_fonts() else family


def _add_new_fonts() -> bool:
    """Whether there are fonts that matplotlib's list lacks; they are added."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    new = [path for path in font_manager.findSystemFonts() if path not in known | _unreadable]
    for path in new:
        try:
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError):  # the file is damaged, or of a kind that matplotlib does not read
            _unreadable.add(path)
    return bool(new)


def _known_font(text: str) -> str | None:
    needed = {ord(character) for character in text if character.isprintable()}
    upright = [e for e in font_manager.fontManager.ttflist if e.style == "normal" and e.weight in (400, "normal")]
    files = {e.name: e.fname for e in upright if not e.name.startswith(_PLACEHOLDERS)}
    for family in dict.fromkeys((*filter(files.get, _FONTS), *sorted(files))):
        try:
            characters = font_manager.get_font(files[family]).get_charmap()
        except (OSError, RuntimeError):  # the file is gone, or damaged
            continue
        if needed <= characters.keys():
            return family
    return None


def warn_of_missing_glyphs(names: Sequence[str]) -> None:
    """Warn, once for these names, that numbers stand for them."""
    if tuple(names) not in _warned:
        _warned.add(tuple(names))
        warn(
            f"no installed font can draw the class names ({', '.join(names)[:60]}): the pictures show numbers, and a "
            ".txt file next to each has the names; install a font such as Noto Sans CJK"
        )
