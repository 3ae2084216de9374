"""Clipping of gradients, decay of weights and regularization."""

import math

import numpy as np
import pytest
from every_optimizer import EPS32, EPS64, give_gradients, make_parameters, scalar, values_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucnn import optimizers, regularizers
from gpucnn.errors import ArgumentError


def clipped(rng, scale=1.0, shapes=((3, 4), (50,), (1,)), **clip):
    """The gradients before and after clipping.

    SGD with rate 1 turns weights of 0 into the negatives of its gradients.
    """
    parameters = make_parameters(*shapes)
    parameters.values[...] = 0
    optimizer = optimizers.SGD(1.0, **clip)
    optimizer.build(parameters)
    give_gradients(parameters, rng, scale)
    before = [segment.weight.gradient.copy() for segment in parameters.segments]
    optimizer.apply(parameters)
    return before, [-value for value in values_of(parameters)]


def norm(*arrays):
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))


def test_clipvalue_bounds_each_element(rng):
    before, after = clipped(rng, clipvalue=0.5)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(np.clip(one, -0.5, 0.5), other)


@settings(deadline=None, max_examples=25)
@given(limit=st.floats(1e-3, 1e3), scale=st.sampled_from([1e-3, 1.0, 1e3, 1e18, 1e25]), seed=st.integers(0, 99))
def test_clipnorm_scales_each_weight_to_the_limit(limit, scale, seed):
    before, after = clipped(np.random.default_rng(seed), scale, clipnorm=limit)
    for one, other in zip(before, after, strict=True):
        shrink = min(1.0, limit / norm(one))
        assert np.abs(other - one * shrink).max() <= 2 * EPS32 * np.abs(one * shrink).max()


@settings(deadline=None, max_examples=25)
@given(limit=st.floats(1e-3, 1e3), scale=st.sampled_from([1e-3, 1.0, 1e3, 1e25]), seed=st.integers(0, 99))
def test_global_clipnorm_scales_all_weights_together(limit, scale, seed):
    before, after = clipped(np.random.default_rng(seed), scale, global_clipnorm=limit)
    shrink = min(1.0, limit / norm(*before))
    for one, other in zip(before, after, strict=True):
        assert np.abs(other - one * shrink).max() <= 2 * EPS32 * np.abs(one * shrink).max()


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_small_gradients_pass_a_clip_unchanged_to_the_bit(clip, rng):
    before, after = clipped(rng, **{clip: 1e3})
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_a_gradient_of_zero_survives_a_clip(clip, rng):
    _, after = clipped(rng, scale=0.0, **{clip: 1.0})
    assert all(np.array_equal(a, np.zeros_like(a)) for a in after)


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_a_clip_of_infinite_gradients_makes_no_nan(clip):
    parameters = make_parameters((3,), (2,))
    optimizer = optimizers.Adam(0.1, **{clip: 0.5})
    optimizer.build(parameters)
    parameters.segments[0].weight.gradient[...] = [1.0, math.inf, -math.inf]
    optimizer.apply(parameters)
    assert np.isfinite(parameters.values).all()
    assert all(np.isfinite(slot).all() for slot in optimizer.state().values())
    assert values_of(parameters)[0][1] < values_of(make_parameters((3,)))[0][1]


def test_frozen_gradients_do_not_count_in_the_global_norm(rng):
    parameters = make_parameters((4,), (4,), frozen=[0])
    parameters.values[...] = 0
    optimizer = optimizers.SGD(1.0, global_clipnorm=1.0)
    optimizer.build(parameters)
    parameters.segments[0].weight.gradient[...] = 1e6
    parameters.segments[1].weight.gradient[...] = 0.25
    optimizer.apply(parameters)
    assert np.array_equal(values_of(parameters)[1], np.full(4, -0.25, np.float32))


def test_weight_decay_takes_its_part_of_every_weight():
    assert scalar(optimizers.SGD(0.1, weight_decay=0.5), [0.0, 0.0]) == [0.95, 0.9025]
    assert abs(scalar(optimizers.SGD(0.1, weight_decay=0.5), [1.0])[0] - 0.85) <= EPS64


def test_a_small_weight_decay_is_not_lost_in_float32():
    parameters = make_parameters((1,))
    parameters.values[0] = 1024.0
    optimizer = optimizers.AdamW(1e-3, weight_decay=0.004)
    optimizer.build(parameters)
    for _ in range(100):
        parameters.gradients[...] = 0
        optimizer.apply(parameters)
    # Each step rounds a value near 1024 once: by at most half of 2⁻¹³ (its spacing below 1024 is 2⁻¹⁴).
    assert abs(float(parameters.values[0]) - 1024 * (1 - 4e-6) ** 100) <= 100 * 2.0**-14


def test_weights_can_be_excluded_from_weight_decay():
    def decayed(**excluded):
        parameters = make_parameters((2,), (2,))
        parameters.values[...] = 1
        parameters.segments[1].weight.name = "bias"
        optimizer = optimizers.SGD(0.1, weight_decay=0.5)
        weights = {k: [parameters.segments[1].weight] if v is None else v for k, v in excluded.items()}
        optimizer.exclude_from_weight_decay(**weights)
        optimizer.build(parameters)
        parameters.gradients[...] = 0
        optimizer.apply(parameters)
        return [bool((value < 1).all()) for value in values_of(parameters)]

    assert decayed() == [True, True]
    assert decayed(var_list=None) == [True, False]
    assert decayed(var_names=["bias", "beta"]) == [True, False]


def test_exclusion_after_build_is_refused():
    optimizer = optimizers.AdamW()
    optimizer.build(make_parameters((2,)))
    with pytest.raises(ArgumentError, match="before fit"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


def test_the_regularizers_gradient_is_part_of_what_is_clipped():
    parameters = make_parameters((2,), regularizer=regularizers.L1L2(0.5, 0.25))
    parameters.values[:2] = [2.0, -4.0]
    optimizer = optimizers.SGD(1.0, clipvalue=1.75)
    optimizer.build(parameters)
    assert optimizer.penalty(parameters) == 0.5 * 6 + 0.25 * 20
    parameters.gradients[:2] = [0.125, 0.125]
    optimizer.apply(parameters)
    # 0.125 + 0.5 + 2·0.25·2 = 1.625; 0.125 - 0.5 - 2 = -2.375, clipped
    assert np.array_equal(values_of(parameters)[0], [2.0 - 1.625, -4.0 + 1.75])


def test_the_penalty_leaves_frozen_weights_out():
    parameters = make_parameters((4,), (4,), frozen=[1], regularizer="l2")
    parameters.values[...] = 1
    assert abs(optimizers.SGD().penalty(parameters) - 0.04) <= 1e-15
    assert optimizers.SGD().penalty(make_parameters((4,))) == 0
