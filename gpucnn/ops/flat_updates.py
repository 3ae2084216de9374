"""How an op is declared that changes flat arrays in place, in one pass, such as an update of weights.

Numbers that differ from step to step are passed in one array, the row:

    row[DECAY]      learning rate · weight decay
    row[MOMENTUM]   momentum of the average of the weights, row[TAKE] = 1 - row[MOMENTUM]
    row[RATE]       learning rate, times the bias corrections of Adam; some use the places behind it

A zero gradient on a zero weight with zero slots leaves all of them zero, so the padding between
weights stays zero.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..dispatch.case import Case, Draw, Spec, among, real
from ..dispatch.op import Op, op
from ..errors import ArgumentError, ShapeError

DECAY, MOMENTUM, TAKE, RATE = range(4)
"""Places in the row."""

BLOCK = 1 << 15
"""Elements handled at a time: 128 KiB of each array; a block and its temporaries stay in cache."""

_WHOLE = ("row", "parts", "value_parts")
"""Operands that a formula reads whole; all others are cut into blocks."""

_SIZES = {"one": 1, "segment": 64, "ragged": 1003, "blocks": 2 * BLOCK + 5}
_BENCH_SIZES = {"slides": 38_464, "mlearning": 484_736, "cifar": 3_702_208}

Operands = tuple[Draw | None, ...]


def in_place(*changed: str, cases: list[Case], ulps: float = 8) -> Callable[[Callable[..., None]], Op]:
    """Turn a formula on flat arrays into an op that writes into the operands `changed`."""

    def decorate(formula: Callable[..., None]) -> Op:
        names = [p.name for p in inspect.signature(formula).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        places = tuple(names.index(name) for name in changed)

        @functools.wraps(formula)
        def body(*arrays: Any, **params: Any) -> Any:
            whole = [array is None or name in _WHOLE for name, array in zip(names, arrays, strict=True)]
            for start in range(0, arrays[0].size, BLOCK):
                block = slice(start, start + BLOCK)
                formula(*(a if w else a[block] for a, w in zip(arrays, whole, strict=True)), **params)
            results = tuple(arrays[place] for place in places if arrays[place] is not None)
            return results if len(results) > 1 else results[0]

        def outputs(*specs: Spec | None, **params: Any) -> Any:
            _check(formula.__name__, names, specs)
            results = tuple(specs[place] for place in places if specs[place] is not None)
            return results if len(results) > 1 else results[0]

        return op(outputs=outputs, cases=cases, prefer=("fused",), ulps=ulps, inplace=places)(body)

    return decorate


def sized(operands: Callable[[int], Operands], ending: str = "", **params: Any) -> list[Case]:
    """A case for each length n of the flat arrays; `operands(n)` draws the operands."""
    return [
        Case(f"{name}{ending}", operands(n), params, bench=sizes is _BENCH_SIZES)
        for sizes in (_SIZES, _BENCH_SIZES)
        for name, n in sizes.items()
    ]


def zeros_and_signs(*operands: Draw, **params: Any) -> Case:
    """A case in which signs decide, an epsilon counts in a sum, and a norm is below its limit."""
    return Case("zeros_and_signs", operands, params)


def squares(n: int) -> Draw:
    """Draw means of squares."""
    return real(n, low=1.0, high=2.0)


ROW = real(6, low=0.1, high=0.9)
SIGNS = among(67, values=(-2.0, -0.5, -0.0, 0.0, 0.5, 2.0))
SMALL_SQUARES = among(67, values=(1e-8, 1e-6))


def _check(name: str, names: list[str], specs: tuple[Spec | None, ...]) -> None:
    first = specs[0]
    assert first is not None
    for other, spec in zip(names, specs, strict=True):
        if spec is None or other in _WHOLE:
            continue
        if len(spec.shape) != 1 or spec.shape != first.shape:
            shapes = f"{names[0]} {first.shape}, {other} {spec.shape}"
            raise ShapeError(f"{name}: {names[0]} and {other} must be flat and of one length: {shapes}")
        if spec.dtype != first.dtype:
            raise ArgumentError(f"{name}: {names[0]} is {first.dtype} but {other} is {spec.dtype}: use one dtype")
