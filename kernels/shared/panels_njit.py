"""Products of matrices by the tiles of convolutions: each row is a pixel, whose patch it is by itself.

The second matrix is packed into panels in each call, so that no panel is older than the matrix. It is
chosen over BLAS where that computes with vectors half as wide as this processor's: OpenBLAS knows new
processors only after a while, and takes them for older ones until then.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from gpucnn.devices import threads
from gpucnn.dispatch.case import Spec

from .implicit_gemm_njit import NO_INDEX, NONE, RELU, Matrix, filters_of, product, workspace
from .patches_njit import Patches, patches
from .tile_njit import WIDTH
from .transposed_gemm_njit import transposed_product, transposed_workspace

FEWEST_ROWS, FEWEST_ROWS_BY_TRANSPOSED, FEWEST_TERMS_OF_TRANSPOSED = 32, 64, 128
FEWEST_COLUMNS, FEWEST_PRODUCTS = WIDTH, 1 << 22
"""With fewer, packing or adding up takes longer than it saves, or lanes of vectors are idle."""

_WIDE = {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""Processors for which OpenBLAS has kernels with vectors of 512 bits."""

_IMAGES = 4, 2, 1


@cache
def are_faster() -> bool:
    """Whether tiles are expected to be faster than BLAS."""
    known = {getattr(library, "architecture", None) for library in threads.blas_libraries()}
    return WIDTH == 16 and not known & _WIDE


def pays(rows: int, terms: int, columns: int, transpose_a: bool = False, transpose_b: bool = False) -> bool:
    """Whether a product of matrices of these sizes is expected to be faster than by BLAS."""
    if transpose_a:
        enough = terms >= FEWEST_TERMS_OF_TRANSPOSED
    else:
        enough = rows >= (FEWEST_ROWS_BY_TRANSPOSED if transpose_b else FEWEST_ROWS)
    return enough and columns >= FEWEST_COLUMNS and rows * columns * terms >= FEWEST_PRODUCTS and are_faster()


def _table(rows: int, terms: int) -> tuple[int, Patches]:
    """The rows as images, which threads share, of pixels."""
    images = next(count for count in _IMAGES if rows % count == 0)
    return images, patches((rows // images, 1), terms, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))


def workspace_of(a: Spec, columns: int) -> tuple[Spec, Spec]:
    """For `multiply`: the panels, and tiles for each thread."""
    images, table = _table(*a.shape)
    return workspace(images, columns, table)


def transposed_workspace_of(a: Spec, columns: int) -> tuple[Spec, Spec, Spec]:
    """For `multiply_transposed`: sums, and what its patches need."""
    images, table = _table(*a.shape)
    return transposed_workspace(images, columns, table)


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


def multiply_transposed(
    y: np.ndarray, a: np.ndarray, b: np.ndarray, sums: np.ndarray, scratch: np.ndarray, behind: np.ndarray
) -> None:
    """y (M, N) = transposed a (K, M) @ b (K, N)."""
    images, table = _table(*a.shape)
    pixels, gradients = a.reshape(images, -1, 1, a.shape[1]), b.reshape(images, -1, 1, b.shape[1])
    transposed_product(y, gradients, pixels, table, sums, scratch, behind)
