"""The ops that update weights: exact, deterministic, and only where they declare it."""

import math

import numpy as np
import pytest

from gpucnn.dispatch.op import Op
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops import update, update_rules

EPS32 = float(np.finfo(np.float32).eps)
OPS = [o for module in (update, update_rules) for o in vars(module).values() if isinstance(o, Op)]
CASES = [pytest.param(o, c, id=f"{o.name}-{c.name}") for o in OPS for c in o.cases if not c.bench]


@pytest.mark.parametrize(("op", "case"), CASES)
def test_the_body_in_float32_is_as_exact_as_kernels_must_be(op, case, rng):
    drawn = [draw and draw.sample(rng) for draw in case.operands]
    single, double = ([a if a is None else a.astype(t) for a in drawn] for t in (np.float32, np.float64))
    actual, expected = op(*single, **case.params), op.reference(*double, **case.params)
    for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (actual, expected)), strict=True):
        bound = op.ulps * EPS32 * np.maximum(1.0, np.abs(other))
        if op.terms:
            bound = (4 + math.sqrt(op.terms(*drawn, **case.params))) * EPS32 * other  # sums of positive terms
        assert np.all(np.abs(one - other) <= bound)


@pytest.mark.parametrize(("op", "case"), CASES)
def test_an_update_changes_the_operands_that_it_declares_and_no_other(op, case, rng):
    arrays = [draw and draw.sample(rng) for draw in case.operands]
    before = [a if a is None else a.copy() for a in arrays]
    results = op(*arrays, **case.params)
    for i, (now, then) in enumerate(zip(arrays, before, strict=True)):
        assert i in op.inplace or now is then is None or np.array_equal(now, then)
    if op.inplace:
        given_back = results if isinstance(results, tuple) else (results,)
        assert [id(r) for r in given_back] == [id(arrays[i]) for i in op.inplace if arrays[i] is not None]
    assert len(op.specs(*arrays, **case.params)) == (len(given_back) if op.inplace else 1)


@pytest.mark.parametrize("op", OPS, ids=lambda o: o.name)
def test_blocks_do_not_change_a_bit(op, rng, monkeypatch):
    case = next(c for c in op.cases if c.name.startswith("ragged"))
    arrays = [draw and draw.sample(rng) for draw in case.operands]
    whole, cut = ([a if a is None else a.copy() for a in arrays] for _ in range(2))
    op(*whole, **case.params)
    monkeypatch.setattr(update, "BLOCK", 167)  # 1003 = 6 · 167 + 1
    op(*cut, **case.params)
    for one, other in zip(whole, cut, strict=True):
        assert one is other is None or np.array_equal(one, other)


@pytest.mark.parametrize(
    ("x", "parts"),
    [
        ([3.0, -4.0, 0.0], [4.0, 1.5625]),  # 25 / 4²
        ([0.0, 0.0], [0.0, 0.0]),
        ([2.0**100] * 3, [2.0**100, 3.0]),
        ([3e38, -3.4e38], [2.0**126, (3e38 / 2.0**126) ** 2 + (3.4e38 / 2.0**126) ** 2]),
        ([2.0**-149], [2.0**-126, 2.0**-46]),
        ([1.0, math.inf, 5.0], [math.inf, 1.0]),
        ([1.0, math.nan, -math.inf], [math.nan, 1.0]),
        ([], [0.0, 0.0]),
    ],
)
def test_a_norm_neither_overflows_nor_underflows(x, parts):
    got = update.norm_parts(np.array(x, np.float32))
    assert got.dtype == np.float32
    assert np.allclose(got, parts, rtol=4 * EPS32, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("gradients", "clipped"),
    [
        ([1.0, -math.inf, math.inf], [0.0, -0.5, 0.5]),
        ([1.0, math.nan, math.inf], [math.nan] * 3),
    ],
)
def test_an_infinite_norm_is_clipped_to_the_limit_and_makes_no_nan(gradients, clipped):
    gradients = np.array(gradients, np.float32)
    update.clip_by_norm(gradients, update.norm_parts(gradients), limit=0.5)
    np.testing.assert_array_equal(gradients, clipped)


@pytest.mark.parametrize(("factors", "penalty"), [((0.5, 0.25), 3.5 + 6.25), ((0.5, 0), 3.5), ((0, 0.25), 6.25)])
def test_a_penalty_worked_by_hand(factors, penalty):
    x = np.array([3.0, -4.0, 0.0], np.float32)
    l1, l2 = factors
    assert update.penalty(x, l1=l1, l2=l2) == penalty
    gradients = np.ones(3, np.float32)
    update.regularize(gradients, x, l1=l1, l2=l2)
    assert np.array_equal(gradients, [1 + l1 + 6 * l2, 1 - l1 - 8 * l2, 1])


@pytest.mark.parametrize(
    ("arrays", "error", "words"),
    [
        (
            (np.zeros(3), np.zeros(4)),
            ShapeError,
            r"sgd: values and gradients must be flat and of one length: values \(3,\)",
        ),
        ((np.zeros((2, 2)), np.zeros((2, 2))), ShapeError, "must be flat"),
        ((np.zeros(3), np.zeros(3, np.float32)), ArgumentError, "values is float64 but gradients is float32"),
    ],
)
def test_unequal_arrays_are_refused(arrays, error, words):
    with pytest.raises(error, match=words):
        update.sgd(*arrays, np.zeros(6))


def test_sums_need_a_flat_array():
    with pytest.raises(ShapeError, match="must be flat and has shape"):
        update.norm_parts(np.zeros((2, 2)))
