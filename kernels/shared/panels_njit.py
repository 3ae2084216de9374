"""Products of matrices by the tiles of convolutions: each row is a pixel, whose patch it is by itself. Of a
transposed matrix, each column is a patch of the image that the matrix is.

The second matrix is packed into panels in each call, so that no panel is older than the matrix. It is
chosen over BLAS where that computes with vectors half as wide as this processor's: OpenBLAS knows new
processors only after a while, and takes them for older ones until then.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from gpucnn.devices import threads
from gpucnn.dispatch.case import Spec

from .implicit_gemm_njit import NONE, RELU, Matrix, filters_of, product, workspace
from .patches_njit import Patches, patches
from .pooling_njit import NO_INDEX
from .tile_njit import WIDTH

FEWEST_ROWS = 32
FEWEST_COLUMNS, FEWEST_PRODUCTS = WIDTH // 2, 1 << 14
"""With fewer, packing takes longer than it saves, or lanes of vectors are idle."""

_WIDE = {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""Processors for which OpenBLAS has kernels with vectors of 512 bits."""

_IMAGES = 2, 1


@cache
def are_faster() -> bool:
    """Whether tiles are expected to be faster than BLAS."""
    known = {getattr(library, "architecture", None) for library in threads.blas_libraries()}
    return WIDTH == 16 and not known & _WIDE


def pays(rows: int, terms: int, columns: int) -> bool:
    """Whether a product of matrices of these sizes is expected to be faster than by BLAS."""
    enough = rows >= FEWEST_ROWS and columns >= FEWEST_COLUMNS and rows * columns * terms >= FEWEST_PRODUCTS
    return enough and are_faster()


def _table(rows: int, terms: int) -> tuple[int, Patches]:
    """The rows as images, which threads share, of pixels."""
    images = next(count for count in _IMAGES if rows % count == 0)
    return images, patches((rows // images, 1), terms, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))


def _transposed_table(terms: int, rows: int) -> Patches:
    """Columns of one image: what a filter as high as the image meets."""
    return patches((terms, rows), 1, (terms, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))


def workspace_of(a: Spec, columns: int, transpose_a: bool = False) -> tuple[Spec, Spec]:
    """For `multiply`, or for `multiply_transposed`: the panels, and tiles for each thread."""
    images, table = (1, _transposed_table(*a.shape)) if transpose_a else _table(*a.shape)
    return workspace(images, columns, table)


def multiply(
    y: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    panels: np.ndarray,
    scratch: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transpose_b: bool = False,
    relu: bool = False,
    sums: np.ndarray | None = None,
    function: int = 0,
    alpha: float = 0.0,
) -> None:
    """y (M, N) = function(a (M, K) @ b (K, N) + bias (N,)), where relu is an end of its own, and b may be stored
    as its transpose; `sums`, like y, receives what the function is applied to."""
    images, table = _table(*a.shape)
    pixels = a.reshape(images, -1, 1, a.shape[1])
    results, kept = (array if array is None else array.reshape(images, -1, y.shape[1]) for array in (y, sums))
    matrix = Matrix(b, np.arange(b.shape[1]), b.shape[1], 0) if transpose_b else filters_of(b)
    product(
        results, NO_INDEX, pixels, matrix, bias, table, RELU if relu else NONE, panels, scratch, sums=kept,
        function=function, alpha=alpha,
    )  # fmt: skip


def multiply_transposed(y: np.ndarray, a: np.ndarray, b: np.ndarray, panels: np.ndarray, scratch: np.ndarray) -> None:
    """y (M, N) = transposed a (K, M) @ b (K, N)."""
    product(
        y[None], NO_INDEX, a.reshape(1, *a.shape, 1), filters_of(b), None, _transposed_table(*a.shape), NONE, panels,
        scratch,
    )  # fmt: skip
