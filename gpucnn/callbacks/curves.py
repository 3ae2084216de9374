"""Learning curves as a picture, and the class of all pictures of a run.

Nothing touches pyplot or matplotlib's global state, so pictures can be drawn without a screen and
do not disturb a user's figures.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import ArgumentError
from ..files import write_atomically

BLUE, ORANGE, RED, GREY = "#0072B2", "#D55E00", "#CC0000", "#555555"
"""Colours that colour-blind readers can distinguish (Okabe and Ito, "Color universal design",
2008). What is red is also said in words."""

_DPI = 120
_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)


class Epochs(Protocol):
    """What `fit` returns: metrics by name, and the numbers of the epochs."""

    epoch: list[int]

    @property
    def history(self) -> dict[str, list[Any]]:
        """The values of each metric by epoch."""


class Picture(Figure):
    """A figure drawn by Agg, laid out so that nothing overlaps; a notebook shows it directly."""

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
        return path

    _repr_png_ = png


def learning_curves(history: Epochs | Mapping[str, Sequence[float]], title: str = "", note: str = "") -> Picture:
    """Loss and metrics by epoch, one panel each, training and validation together.

    history   what `fit` returned, or a dictionary of lists such as `{"loss": […], "val_loss": […]}`
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
        axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(values[name]) == 1:
            axes.set_xlim(first - 0.5, first + 0.5)
        if f"val_{name}" in values:
            axes.legend(frameon=False)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    return picture


def font_for(text: str) -> str | None:
    """An installed font that has all these characters."""
    needed = {ord(character) for character in text if character.isprintable()}
    for family in _FONTS:
        try:
            path = font_manager.findfont(font_manager.FontProperties(family=family), fallback_to_default=False)
        except ValueError:
            continue
        if needed <= font_manager.get_font(path).get_charmap().keys():
            return family
    return None
