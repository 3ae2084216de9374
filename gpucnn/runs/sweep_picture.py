"""The picture of a sweep: the score of every trial, and mean and spread of each combination."""

from __future__ import annotations

from ..callbacks.curves import BLUE, GREY, ORANGE, Picture, font_for
from .sweep_result import Sweep, label

_MOST = 40
"""Combinations in a picture: the best ones."""


def picture(sweep: Sweep) -> Picture:
    """A line for each combination of settings, the best first: dots are trials, the bar reaches from
    one standard deviation below the mean to one above it."""
    rows = sweep.rows[:_MOST]
    finished = sum(len(row.scores) for row in sweep.rows)
    left_out = f", the best {_MOST} of {len(sweep.rows)} combinations" if len(sweep.rows) > _MOST else ""
    title = f"sweep on {sweep.dataset}: {finished} of {len(sweep.trials)} trials finished{left_out}"
    drawn = Picture(9, 1.4 + 0.36 * len(rows), title, sweep.note or "")
    axes = drawn.subplots()
    for place, row in enumerate(rows):
        scores = [100 * score for score in row.scores]
        if len(scores) > 1:
            low, high = 100 * (row.mean - row.deviation), 100 * (row.mean + row.deviation)
            axes.plot([low, high], [place, place], color=BLUE, alpha=0.3, linewidth=7, solid_capstyle="butt")
        axes.plot(scores, [place] * len(scores), "o", color=BLUE, markersize=4, alpha=0.8)
        if scores:
            axes.plot([100 * row.mean] * 2, [place - 0.3, place + 0.3], color=ORANGE, linewidth=2)
        else:
            axes.text(0.5, place, "no trial finished", transform=axes.get_yaxis_transform(), color=GREY,
                      ha="center", va="center", fontsize=9)  # fmt: skip
    names = [label(row.values) for row in rows]
    axes.set_yticks(range(len(rows)), names, family=font_for("".join(names)), fontsize=9, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{sweep.ranked_by} (%): each trial, mean (line) ± standard deviation (bar)")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return drawn
