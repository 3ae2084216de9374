"""The product of two matrices, each read as it is or as its transpose."""

from __future__ import annotations

from ..dispatch.case import Array, Case, Spec, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError


def _extents(a: Spec, b: Spec, transpose_a: bool, transpose_b: bool) -> tuple[int, int, int]:
    """(M, K, N); raises `ShapeError`."""
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise ShapeError(f"matmul: a and b need 2 axes each and have shapes {a.shape} and {b.shape}")
    if a.dtype != b.dtype:
        raise ArgumentError(f"matmul: a is {a.dtype} but b is {b.dtype}: convert one to the other's dtype")
    (m, k), (k_of_b, n) = a.shape[:: -1 if transpose_a else 1], b.shape[:: -1 if transpose_b else 1]
    if k != k_of_b:
        axes_a, axes_b = "(K, M)" if transpose_a else "(M, K)", "(N, K)" if transpose_b else "(K, N)"
        raise ShapeError(f"matmul: K is {k} in a but {k_of_b} in b: a {axes_a} = {a.shape}, b {axes_b} = {b.shape}")
    return m, k, n


def _outputs(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> Spec:
    m, _, n = _extents(a, b, transpose_a, transpose_b)
    return a.like(m, n)


def _flops(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> int:
    m, k, n = _extents(a, b, transpose_a, transpose_b)
    return 2 * m * k * n


def _terms(a: Spec, b: Spec, *, transpose_a: bool, transpose_b: bool) -> int:
    return _extents(a, b, transpose_a, transpose_b)[1]


def _cases(name: str, m: int, k: int, n: int, bench: bool = False) -> list[Case]:
    """The products of a dense layer: y = x @ weight, dx = dy @ weight.T, dweight = x.T @ dy."""
    return [
        Case(name, (real(m, k), real(k, n)), {"transpose_a": False, "transpose_b": False}, bench),
        Case(f"{name}_grad_input", (real(m, n), real(k, n)), {"transpose_a": False, "transpose_b": True}, bench),
        Case(f"{name}_grad_weight", (real(m, k), real(m, n)), {"transpose_a": True, "transpose_b": False}, bench),
    ]


CASES = [
    *_cases("one", 1, 1, 1),
    *_cases("row", 1, 7, 5),
    *_cases("few_rows", 2, 301, 300),
    *_cases("column", 6, 4, 1),
    *_cases("outer", 5, 1, 3),
    *_cases("ragged", 13, 37, 11),
    *_cases("long", 3, 1000, 4),
    *_cases("very_long", 3, 5000, 4),
    *_cases("quads", 68, 20, 36),
    *_cases("tiles", 64, 64, 64),
    *_cases("tiles_of_many_terms", 16, 277, 96),
    *_cases("tiles_of_many_units", 16, 96, 277),
    *_cases("beyond_tiles", 65, 129, 67),
    *_cases("quads_beyond_tiles", 132, 36, 76),
    Case("both_transposed", (real(6, 5), real(3, 6)), {"transpose_a": True, "transpose_b": True}),
    Case("both_transposed_quads", (real(20, 132), real(68, 20)), {"transpose_a": True, "transpose_b": True}),
    *_cases("slides_dense_1", 128, 320, 100, bench=True),
    *_cases("slides_dense_2", 128, 100, 10, bench=True),
    *_cases("mlearning_dense_1", 128, 3136, 128, bench=True),
    *_cases("keras_intro_dense_1", 32, 1600, 64, bench=True),
    *_cases("torres_dense", 100, 1024, 10, bench=True),
    *_cases("cifar_dense_1", 512, 7200, 512, bench=True),
]


@op(
    outputs=_outputs,
    cases=CASES,
    prefer=("few_rows", "streamed", "panels", "blas", "tensor", "warptiled", "register_tiled", "tiled", "naive"),
    flops=_flops,
    terms=_terms,
    factors=(0, 1),
)
def matmul(a: Array, b: Array, *, transpose_a: bool, transpose_b: bool) -> Array:
    """The matrix product a @ b.

    a  (M, K), or (K, M) if transpose_a
    b  (K, N), or (N, K) if transpose_b
    →  (M, N)
    """
    return (a.T if transpose_a else a) @ (b.T if transpose_b else b)
