"""What changes a weight: one pass over flat arrays of all weights, gradients and slots, in place.

Numbers that differ from step to step come in one array, the row:

    row[DECAY]      learning rate · weight decay
    row[MOMENTUM]   momentum of the average of the weights, row[TAKE] = 1 - row[MOMENTUM]
    row[RATE]       learning rate, with the bias corrections of Adam in it; Nadam continues to the right

A zero gradient on a zero weight with zero slots leaves all of them zero, so the padding between weights stays zero.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..op import Array, Case, Draw, Op, ShapeError, Spec, op, real

DECAY, MOMENTUM, TAKE, RATE = range(4)
"""Places in the row."""

BLOCK = 1 << 15
"""Elements handled at a time: 128 KiB of each array, so that a block and its temporaries stay in cache."""

_WHOLE = ("row", "square_sum")
_SIZES = {"one": 1, "segment": 64, "ragged": 1003, "blocks": 2 * BLOCK + 5}
_BENCH_SIZES = {"slides": 38_464, "mlearning": 484_736, "cifar": 3_702_208}


def _in_place(*changed: str, absent: tuple[str, ...] = (), **typical: Any) -> Callable[[Callable[..., None]], Op]:
    """Make an op of a formula on flat arrays that writes into the operands `changed` and returns those that are given.

    The op's cases have the `typical` parameters, once with and once without the operands that may be `absent`.
    """

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

        cases = [
            Case(f"{case}_plain" if missing else case, _operands(names, size, missing), typical, bench)
            for missing in ([(), absent] if absent else [()])
            for sizes, bench in ((_SIZES, False), (_BENCH_SIZES, True))
            for case, size in sizes.items()
        ]
        return op(outputs=outputs, cases=cases, prefer=("fused",), ulps=8, inplace=places)(body)

    return decorate


def _operands(names: list[str], size: int, missing: tuple[str, ...]) -> tuple[Draw | None, ...]:
    drawn = {
        "row": real(6, low=0.1, high=0.9),
        "square_sum": real(1, low=0.5, high=2.0, dtype="float64"),
        "v": real(size, low=1.0, high=2.0),
        "v_max": real(size, low=1.0, high=2.0),
        "delta": real(size, low=0.0, high=1.0),
        "mean": real(size, low=-0.5, high=0.5),
    }
    return tuple(None if name in missing else drawn.get(name, real(size)) for name in names)


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


@_in_place("values")
def sgd(values: Array, gradients: Array, row: Array) -> None:
    """values - rate · gradients. All arrays (n,)."""
    values -= row[RATE] * gradients


@_in_place("values", "m", momentum=0.9, nesterov=True)
def momentum(values: Array, gradients: Array, m: Array, row: Array, *, momentum: float, nesterov: bool) -> None:
    """Momentum m, plain or Nesterov's: Sutskever et al., ICML 2013, section 2. All arrays (n,)."""
    m *= momentum
    m -= row[RATE] * gradients
    values += momentum * m - row[RATE] * gradients if nesterov else m


@_in_place("values", "m", "v", "v_max", absent=("v_max",), beta_1=0.9, beta_2=0.999, epsilon=1e-7)
def adam(
    values: Array,
    gradients: Array,
    m: Array,
    v: Array,
    v_max: Array | None,
    row: Array,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Adam: Kingma and Ba, ICLR 2015, algorithm 1 as rewritten before section 2.1. All arrays (n,).

    row[RATE] is rate · √(1 - β₂ᵗ) / (1 - β₁ᵗ). With v_max AMSGrad: Reddi, Kale, Kumar, ICLR 2018, algorithm 2.
    """
    m += (1 - beta_1) * (gradients - m)
    v += (1 - beta_2) * (gradients * gradients - v)
    if v_max is not None:
        v = np.maximum(v_max, v, out=v_max)
    values -= row[RATE] * m / (np.sqrt(v) + epsilon)


@_in_place("values", "m", "v", beta_1=0.9, beta_2=0.999, epsilon=1e-7)
def nadam(
    values: Array, gradients: Array, m: Array, v: Array, row: Array, *, beta_1: float, beta_2: float, epsilon: float
) -> None:
    """Adam with Nesterov's momentum: Dozat, ICLR workshop 2016, algorithm 2. All arrays (n,).

    row[RATE:] is the factor of m, the factor of the gradient (learning rate and momentum schedule in both), and
    1 / (1 - β₂ᵗ).
    """
    of_m, of_gradients, correction = row[RATE : RATE + 3]
    m += (1 - beta_1) * (gradients - m)
    v += (1 - beta_2) * (gradients * gradients - v)
    values -= (of_m * m + of_gradients * gradients) / (np.sqrt(correction * v) + epsilon)


@_in_place("values", "v", "mean", "m", absent=("mean", "m"), rho=0.9, momentum=0.9, epsilon=1e-7)
def rmsprop(
    values: Array,
    gradients: Array,
    v: Array,
    mean: Array | None,
    m: Array | None,
    row: Array,
    *,
    rho: float,
    momentum: float,
    epsilon: float,
) -> None:
    """RMSprop: Hinton, "Neural networks for machine learning", 2012, lecture 6e. All arrays (n,).

    With mean, the running mean of the gradients, it divides by their standard deviation (Graves, arXiv:1308.0850,
    equations 38 to 41); with m the change has momentum.
    """
    v *= rho
    v += (1 - rho) * (gradients * gradients)
    spread = v + epsilon
    if mean is not None:
        mean *= rho
        mean += (1 - rho) * gradients
        spread -= mean * mean
    change = row[RATE] * gradients / np.sqrt(spread)
    if m is not None:
        m *= momentum
        m += change
        change = m
    values -= change


@_in_place("values", "v", epsilon=1e-7)
def adagrad(values: Array, gradients: Array, v: Array, row: Array, *, epsilon: float) -> None:
    """Adagrad, v being the sum of squares so far: Duchi, Hazan, Singer, JMLR 12 (2011), figure 1. All arrays (n,)."""
    v += gradients * gradients
    values -= row[RATE] * gradients / np.sqrt(v + epsilon)


@_in_place("values", "v", "delta", rho=0.95, epsilon=1e-7)
def adadelta(
    values: Array, gradients: Array, v: Array, delta: Array, row: Array, *, rho: float, epsilon: float
) -> None:
    """Adadelta, delta being the mean of squared changes: Zeiler, arXiv:1212.5701, algorithm 1. All arrays (n,)."""
    v *= rho
    v += (1 - rho) * (gradients * gradients)
    change = np.sqrt(delta + epsilon) * gradients / np.sqrt(v + epsilon)
    delta *= rho
    delta += (1 - rho) * (change * change)
    values -= row[RATE] * change


@_in_place("values")
def decay(values: Array, row: Array) -> None:
    """Decoupled weight decay: Loshchilov and Hutter, ICLR 2019, algorithm 1. All arrays (n,)."""
    values -= row[DECAY] * values


@_in_place("averages")
def average(averages: Array, values: Array, row: Array) -> None:
    """The moving average of the weights takes in their present values. All arrays (n,)."""
    averages *= row[MOMENTUM]
    averages += row[TAKE] * values


@_in_place("total")
def accumulate(total: Array, gradients: Array) -> None:
    """total + gradients. All arrays (n,)."""
    total += gradients


@_in_place("gradients", "total", count=4)
def take_mean(gradients: Array, total: Array, *, count: int) -> None:
    """gradients becomes the mean of itself and of count - 1 gradients in total; total becomes 0. All arrays (n,)."""
    gradients += total
    gradients /= count
    total[...] = 0


@_in_place("gradients", limit=0.5)
def clip_by_value(gradients: Array, *, limit: float) -> None:
    """Every element brought into -limit … limit. All arrays (n,)."""
    np.clip(gradients, -limit, limit, out=gradients)


@_in_place("gradients", limit=0.5)
def clip_by_norm(gradients: Array, square_sum: Array, *, limit: float) -> None:
    """gradients · limit / max(norm, limit), the norm being the root of square_sum (1,). Gradients (n,)."""
    gradients *= (limit / np.maximum(np.sqrt(square_sum), limit)).astype(gradients.dtype)


def _square_sum_outputs(x: Spec) -> Spec:
    if len(x.shape) != 1:
        raise ShapeError(f"square_sum: x must be flat and has shape {x.shape}")
    return Spec((1,), np.dtype(np.float64))


@op(
    outputs=_square_sum_outputs,
    cases=[
        Case(name, (real(size),), bench=sizes is _BENCH_SIZES)
        for sizes in (_SIZES, _BENCH_SIZES)
        for name, size in sizes.items()
    ],
    prefer=("fused",),
    terms=lambda x: x.shape[0],
)
def square_sum(x: Array) -> Array:
    """The sum of squares, added up in float64, so that no float32 gradient is too large to be clipped.

    x  (n,)
    →  (1,) float64
    """
    total = np.zeros(1)
    for start in range(0, x.size, BLOCK):
        total += np.square(x[start : start + BLOCK], dtype=np.float64).sum()
    return total
