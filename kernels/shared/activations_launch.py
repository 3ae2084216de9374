"""The numbers of the activations in `activations.cuh` and `activations_numba.py`."""

from __future__ import annotations

from gpucnn.ops.activation import FUNCTIONS
from gpucnn.ops.epilogue import LINEAR

NUMBERS = {name: number for number, name in enumerate((*FUNCTIONS, LINEAR))}

DEFINES = {name.upper(): number for name, number in NUMBERS.items()}
"""RELU=0, RELU6=1, …: the cases of the switches."""
