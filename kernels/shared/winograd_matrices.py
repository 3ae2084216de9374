"""The matrices of Winograd's minimal filtering along one axis, with factors that are powers of two.

F(results, taps) computes y = d ⋆ g, some results of a filter with so many taps, as

    y = Aᵀ [ (G g) ⊙ (Bᵀ d) ]

It is the transpose of a product of two polynomials, of `results` and `taps` coefficients, which is put
together from its remainders modulo some others. Customary are x - p for the points p = 0, ±1, ±2 …,
whose differences bring factors like 1/6 and 1/24. Here they are

    x, x - 1, x + 1, x² + 1, the point at infinity, and for more cells x² instead of x and a second
    coefficient at infinity

(Barabasz and Gregg, "Winograd Convolution for DNNs: Beyond Linear Polynomials", 2019). The product of
two remainders of two coefficients takes three multiplications (Karatsuba). In return all factors are 0,
±1, ±½ and ±¼: small integers stay exact, and the error of a result is as small as that of the
definition's sum.

A filter of six or seven taps is two pieces one behind the other, whose results are added.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

_MODULI = {
    3: ((0, 1), (-1, 1)),
    4: ((0, 1), (-1, 1), (1, 1)),
    5: ((0, 0, 1), (-1, 1), (1, 1)),
    6: ((0, 1), (-1, 1), (1, 1), (1, 0, 1)),
    7: ((0, 0, 1), (-1, 1), (1, 1), (1, 0, 1)),
    8: ((0, 0, 1), (-1, 1), (1, 1), (1, 0, 1)),
}
"""By the number of cells: coefficients of the polynomials, from the constant on. What their degrees lack to
the number of cells are coefficients at infinity."""

_PIECES = {6: (3, 3), 7: (3, 4)}
"""The taps of two pieces."""

_FACTORS = {1: np.array([[1]]), 2: np.array([[1, 0], [0, 1], [1, 1]])}
"""By the number of coefficients of a remainder: what is multiplied."""


class Filtering(NamedTuple):
    """F(results, taps), for 2 to 7 taps and up to 8 cells for each of its pieces."""

    results: int
    taps: int

    @property
    def cells(self) -> int:
        """What the results see."""
        return self.results + self.taps - 1

    @property
    def places(self) -> int:
        """Multiplications."""
        return self.of_filter.shape[0]

    @property
    def one(self) -> int:
        """The place that reaches all results unchanged: that of x - 1."""
        return int((self.of_results == 1).all(axis=0).argmax())

    @property
    def of_results(self) -> np.ndarray:
        """Aᵀ (results, places)."""
        return _matrices(*self)[0]

    @property
    def of_filter(self) -> np.ndarray:
        """G (places, taps)."""
        return _matrices(*self)[1]

    @property
    def of_cells(self) -> np.ndarray:
        """Bᵀ (places, cells)."""
        return _matrices(*self)[2]


@cache
def _matrices(results: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵀ, G and Bᵀ."""
    if taps not in _PIECES:
        return _of_piece(results, taps)
    (a, g, b), (a2, g2, b2) = (_of_piece(results, piece) for piece in _PIECES[taps])
    of_filter = np.block([[g, np.zeros((len(g), g2.shape[1]))], [np.zeros((len(g2), g.shape[1])), g2]])
    of_cells = np.zeros((len(of_filter), results + taps - 1))
    of_cells[: len(b), : b.shape[1]], of_cells[len(b) :, -b2.shape[1] :] = b, b2
    return np.hstack([a, a2]), of_filter, of_cells


def _of_piece(results: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵀ, G and Bᵀ: the transpose of evaluating two polynomials and joining the products."""
    cells = results + taps - 1
    moduli = _MODULI[cells]

    def remainders(coefficients: int) -> list[np.ndarray]:
        at_infinity = cells - sum(len(modulus) - 1 for modulus in moduli)
        return [*(_remainder(m, coefficients) for m in moduli), np.eye(coefficients)[::-1][:at_infinity]]

    def evaluated(coefficients: int) -> np.ndarray:
        return np.vstack([_FACTORS[len(one)] @ one for one in remainders(coefficients)])

    joined = np.round(64 * np.linalg.inv(np.vstack(remainders(cells)))) / 64  # exact: multiples of a quarter
    columns, first = [], 0
    for one, modulus in zip(remainders(cells), (*moduli, (0, 0, 1)), strict=True):
        columns.append(joined[:, first : first + len(one)] @ _joining(modulus, len(one)))
        first += len(one)
    of_cells = np.hstack(columns).T
    scale = 1 / np.where(of_cells, np.abs(of_cells), np.inf).min(axis=1, keepdims=True)
    return evaluated(results).T, evaluated(taps) / scale, of_cells * scale


def _remainder(modulus: tuple[int, ...], coefficients: int) -> np.ndarray:
    """The matrix that takes a polynomial to its remainder: column j is that of xʲ."""
    power, columns = np.eye(len(modulus) - 1)[0], []
    for _ in range(coefficients):
        columns.append(power)
        power = np.append(0, power[:-1]) - power[-1] * np.array(modulus[:-1])
    return np.stack(columns, axis=1)


def _joining(modulus: tuple[int, ...], coefficients: int) -> np.ndarray:
    """The matrix that takes the products of `_FACTORS` to the product modulo x² + c of two remainders."""
    return np.array([[1]]) if coefficients == 1 else np.array([[1, -modulus[0], 0], [-1, -1, 1]])
