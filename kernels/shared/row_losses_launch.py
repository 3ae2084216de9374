"""The numbers by which kernels for GPUs know the functions of `value_loss`."""

from __future__ import annotations

from gpucnn.ops.row_losses import FUNCTIONS, SUMMED

NUMBERS = {function: number for number, function in enumerate(FUNCTIONS)}

DEFINES = {function.upper(): number for function, number in NUMBERS.items()}
"""The same as macros."""


def scale(function: str, columns: int) -> float:
    """What the mean over a row is multiplied by: the number of columns where the sum is taken."""
    return float(columns) if function in SUMMED else 1.0
