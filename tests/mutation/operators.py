"""The kinds of changes, and what each operator, constant and name becomes."""

from __future__ import annotations

KINDS = (
    "arithmetic",
    "assignment",
    "barrier",
    "comparison",
    "constant",
    "fma",
    "guard",
    "index",
    "logic",
    "min/max",
    "select",
)
ARITHMETIC = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "+"}
BITS = {"<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "&"}
COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
LOGIC = {"&&": "||", "||": "&&", "and": "or", "or": "and"}
EXTREMES = {"min": "max", "max": "min", "fminf": "fmaxf", "fmaxf": "fminf", "fmin": "fmax", "fmax": "fmin"}
AXES = {"x": "y", "y": "x", "z": "x"}
INDEX = ("threadIdx", "blockIdx", "blockDim", "gridDim")
Site = tuple[str, str, int, int, str]
"""(function, kind, begin, end, what stands there instead)"""


def other_numbers(value: float) -> list[str]:
    """The numbers that a constant becomes: 0 → 1, 1 → 2, n → n - 1 and n + 1."""
    others = (value + 1,) if value in (0, 1) else (value - 1, value + 1)
    return [f"{v:.10g}" for v in others]
