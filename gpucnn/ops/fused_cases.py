"""The layers on which the fused ops are checked and timed, and the ends that they have there."""

from __future__ import annotations

from typing import Any

from ..dispatch.case import Case, Draw, integers, real
from .conv2d import SETTINGS
from .convolution import Setting, setting
from .epilogue import LINEAR, RELU, end

PLAIN = [
    *(s for s in SETTINGS if s.window["groups"] == 1),
    setting("three_filters", x=(3, 6, 7, 2), weight=(3, 3, 2, 3)),
    setting("a_line_of_filters", x=(2, 9, 8, 3), weight=(3, 2, 3, 32)),
    setting("beyond_a_line_of_filters", x=(1, 6, 7, 4), weight=(3, 3, 4, 33)),
    setting("one_filter_long", x=(2, 5, 6, 15), weight=(3, 3, 15, 1)),
    setting("three_filters_long", x=(2, 6, 5, 16), weight=(3, 3, 16, 3)),
    setting("ten_filters_long", x=(2, 7, 7, 9), weight=(4, 4, 9, 10)),
    setting("a_line_of_filters_long", x=(1, 5, 6, 20), weight=(3, 3, 20, 32)),
    setting("beyond_a_line_of_filters_long", x=(1, 5, 5, 17), weight=(3, 3, 17, 33)),
]
POOLED = [s for s in PLAIN if min(s.y[1:3]) > 1]

_ENDED_CASES = ("ragged", "a_line_of_filters", "three_filters_long", "quads_of_many_taps", "quads_of_many_channels")
ENDED = [s for s in PLAIN if s.name in _ENDED_CASES]

GROUPED = [
    *(s for s in SETTINGS if s.window["groups"] > 1),
    setting("depthwise_wide", x=(2, 9, 8, 40), weight=(3, 3, 1, 40), padding=((1, 1), (1, 1)), groups=40),
]
"""What `conv2d_bias_activation` alone computes."""

DENSE = {
    "one": (1, 1, 1),
    "row": (1, 7, 5),
    "few_rows": (2, 301, 300),
    "ragged": (13, 37, 11),
    "quads": (68, 20, 36),
    "quads_beyond_tiles": (132, 36, 76),
    "tiles": (64, 64, 64),
    "tiles_of_many_terms": (16, 277, 96),
    "long": (3, 1000, 4),
    "one_unit": (9, 20, 1),
    "one_unit_long": (9, 200, 1),
    "three_units": (5, 20, 3),
    "three_units_long": (70, 130, 3),
    "ten_units": (12, 30, 10),
    "ten_units_long": (65, 150, 10),
    "a_line": (66, 40, 32),
    "a_line_long": (7, 260, 32),
    "beyond_a_line": (5, 24, 33),
    "beyond_a_line_long": (20, 190, 33),
}
DENSE_BENCH = {
    "slides": (128, 320, 100),
    "mlearning": (128, 3136, 128),
    "keras_intro": (32, 1600, 64),
    "cifar": (512, 7200, 512),
}

_ENDS = {
    "linear": end(LINEAR, keep_input=False),
    "tanh": end("tanh", keep_input=False),
    "leaky": end("leaky_relu", keep_input=False),
    "elu_flat": end("elu", 0.25, keep_input=False),
    "gelu": end("gelu", keep_input=False),
}
_KEEPING = {f"{name}_keeping_input": end(name, keep_input=True) for name in ("relu", "gelu", "silu")}


DRAWS = "rate", "seed", "stream", "counter"
"""The parameters of `dropout`."""

_DROPPED = {
    "kept_mostly": {**RELU, "rate": 0.2, "seed": 1234567890123, "stream": 3},
    "dropped_mostly": {**end(LINEAR), "rate": 0.7, "seed": 5, "stream": 2**32 - 1},
    "part_of_a_batch": {**end(LINEAR), "rate": 0.5, "seed": 3, "stream": 1, "counter": 2**32 - 3},
}


def window_of(one: Setting) -> dict[str, Any]:
    """The parameters of its window: there are no groups."""
    return {name: value for name, value in one.window.items() if name != "groups"}


def conv_operands(one: Setting) -> tuple[Draw, Draw, Draw]:
    """x, weight and b."""
    return real(*one.x), real(*one.weight), real(one.weight[-1])


def dense_operands(m: int, k: int, n: int) -> tuple[Draw, Draw, Draw]:
    """x, weight and b."""
    return real(m, k), real(k, n), real(n)


def product_cases(name: str, operands: tuple[Draw, ...], params: dict[str, Any]) -> list[Case]:
    """A product with other ends than ReLU."""
    return [Case(f"{name}_{word}", operands, {**ending, **params}) for word, ending in {**_ENDS, **_KEEPING}.items()]


def dropped_cases(name: str, operands: tuple[Draw, ...], params: dict[str, Any], bench: bool = False) -> list[Case]:
    """A product followed by dropout."""
    step = integers(1, high=1000, dtype="int64")
    return [Case(f"{name}_{word}", (*operands, step), {**draws, **params}, bench) for word, draws in _DROPPED.items()]
