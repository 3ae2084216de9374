"""How exactly products read their factors: which precision is in force, and what it says.

Products of matrices and convolutions multiply factors and add up the products in float32. A lower
precision rounds the factors first; tensor cores then multiply them several times as fast. Weights,
gradients and all other ops stay float32.

On the CPU, each product is computed exactly as its precision says, so that a training in any precision
can be repeated and tested without a GPU. A GPU may compute a product in float32 where that is as fast:
small products, and those whose extents tensor cores do not take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np

from ..devices import choose
from ..devices.cpu import CPU
from ..devices.scoped import Scoped

Precision = Literal["float32", "tf32", "bfloat16"]
"""What `compile` and `--precision` take."""

PRECISIONS: tuple[str, ...] = get_args(Precision)
FLOAT32, TF32, BFLOAT16 = PRECISIONS

SIGNIFICANT_BITS = {FLOAT32: 24, TF32: 11, BFLOAT16: 8}
"""Of a factor, with the leading one."""

_precision = Scoped("precision", FLOAT32)


def in_force() -> str:
    """The precision of products in this thread."""
    return _precision.get()


@contextmanager
def scope(precision: str) -> Iterator[None]:
    """Products in the body of the with statement, in this thread, have this precision."""
    with _precision.scope():
        _precision.set(precision)
        yield


def is_as_stated() -> bool:
    """Whether products are computed exactly as the precision says."""
    return choose.current() is CPU


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """The array, of floats, as factors of this precision: rounded to the nearest, for TF32 with ties away
    from zero (as `cvt.rna.tf32.f32` of PTX does), for bfloat16 with ties to even. What is not finite
    stays as it is."""
    if precision == FLOAT32 or array.dtype.kind != "f":
        return array
    values = array.astype(np.float32)
    bits = values.view(np.uint32)
    dropped = np.uint32(24 - SIGNIFICANT_BITS[precision])
    half = np.uint32(1) << (dropped - np.uint32(1))
    up = half - np.uint32(1) + (bits >> dropped & np.uint32(1)) if precision == BFLOAT16 else half
    nearest = ((bits + up) >> dropped << dropped).view(np.float32)
    return np.where(np.isfinite(values), nearest, values).astype(array.dtype)
