"""Learning rates at chosen steps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from gpucnn.config import deserialize, serialize
from gpucnn.errors import ArgumentError
from gpucnn.optimizers import schedules

TIGHT = 8 * np.finfo(np.float64).eps


def agree(got, expected):
    return abs(got - expected) <= TIGHT * max(1.0, abs(expected))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (schedules.ExponentialDecay(0.1, 10, 0.5), {0: 0.1, 5: 0.1 * 0.5**0.5, 10: 0.05, 30: 0.0125}),
        (schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True), {0: 0.1, 9: 0.1, 10: 0.05, 19: 0.05, 20: 0.025}),
        (schedules.InverseTimeDecay(0.1, 10, 0.5), {0: 0.1, 10: 0.1 / 1.5, 20: 0.05, 5: 0.08}),
        (schedules.InverseTimeDecay(0.1, 10, 0.5, staircase=True), {9: 0.1, 10: 0.1 / 1.5, 19: 0.1 / 1.5, 20: 0.05}),
        (schedules.InverseTimeDecay(0.01, 1, 1e-6), {0: 0.01, 1_000_000: 0.005}),
        (schedules.PolynomialDecay(0.1, 10, 0.01), {0: 0.1, 5: 0.055, 10: 0.01, 11: 0.01, 1000: 0.01}),
        (schedules.PolynomialDecay(0.1, 10, 0.02, power=2.0), {0: 0.1, 5: 0.04, 10: 0.02}),
        (
            schedules.PolynomialDecay(0.1, 10, 0.0, cycle=True),
            {0: 0.1, 5: 0.05, 10: 0.0, 15: 0.025, 20: 0.0, 25: 0.1 / 6},
        ),
        (schedules.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1]), {0: 1.0, 10: 1.0, 11: 0.5, 20: 0.5, 21: 0.1}),
        (schedules.PiecewiseConstantDecay([], [0.3]), {0: 0.3, 99: 0.3}),
        (schedules.CosineDecay(0.1, 10), {0: 0.1, 5: 0.05, 10: 0.0, 99: 0.0}),
        (schedules.CosineDecay(0.1, 10, alpha=0.2), {0: 0.1, 5: 0.06, 10: 0.02, 99: 0.02}),
        (
            schedules.CosineDecay(0.0, 10, warmup_target=0.2, warmup_steps=4),
            {0: 0.0, 1: 0.05, 3: 0.15, 4: 0.2, 9: 0.1, 14: 0.0, 50: 0.0},
        ),
        (schedules.CosineDecay(0.1, 10, warmup_target=0.2), {0: 0.2, 5: 0.1}),
        (
            schedules.CosineDecayRestarts(0.1, 10),
            {0: 0.1, 5: 0.05, 10: 0.1, 20: 0.05, 30: 0.1, 50: 0.05, 70: 0.1},
        ),
        (schedules.CosineDecayRestarts(0.1, 10, t_mul=1.0), {0: 0.1, 5: 0.05, 10: 0.1, 15: 0.05, 100: 0.1}),
        (
            schedules.CosineDecayRestarts(0.1, 10, t_mul=2.0, m_mul=0.5, alpha=0.1),
            {0: 0.1, 5: 0.1 * (0.9 * 0.5 + 0.1), 10: 0.1 * (0.9 * 0.5 + 0.1), 30: 0.1 * (0.9 * 0.25 + 0.1)},
        ),
    ],
)
def test_rates_worked_by_hand(schedule, rates):
    for step, rate in rates.items():
        got = schedule(step)
        assert agree(got, rate), (step, got, rate)


@pytest.mark.parametrize(
    ("schedule", "ends"),
    [
        (schedules.CosineDecayRestarts(1.0, 4, t_mul=1.5), [4, 10, 19]),
        (schedules.CosineDecayRestarts(1.0, 9, t_mul=3.0), [9, 36, 117, 360, 1089, 3276]),
        (schedules.CosineDecayRestarts(1.0, 7, t_mul=2.0), [7 * (2**i - 1) for i in range(1, 30)]),
    ],
)
def test_a_restart_happens_at_its_step_and_not_one_late(schedule, ends):
    for end in ends:
        assert agree(schedule(end), 1.0)
        assert schedule(end - 1) < 0.2


ALL = [
    schedules.ExponentialDecay(0.1, 7, 0.9),
    schedules.ExponentialDecay(0.1, 7, 0.9, True),
    schedules.InverseTimeDecay(0.1, 7, 0.9),
    schedules.PolynomialDecay(0.1, 7),
    schedules.PolynomialDecay(0.1, 7, cycle=True),
    schedules.PiecewiseConstantDecay([3, 9], [0.3, 0.2, 0.1]),
    schedules.CosineDecay(0.1, 7, 0.01),
    schedules.CosineDecay(0.1, 7, warmup_target=0.5, warmup_steps=3),
    schedules.CosineDecayRestarts(0.1, 7, 1.7, 0.9, 0.01),
    schedules.CosineDecayRestarts(0.1, 7, 1.0),
]


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_an_array_of_steps_gives_the_rates_of_each(schedule):
    steps = np.arange(60)
    each = [schedule(int(step)) for step in steps]
    assert np.abs(schedule(steps) - each).max() <= TIGHT
    assert all(isinstance(rate, float) and math.isfinite(rate) for rate in each)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_a_description_gives_the_same_schedule(schedule):
    again = schedules.get({"class_name": type(schedule).__name__, "config": schedule.get_config()})
    assert np.array_equal(again(np.arange(60)), schedule(np.arange(60)))
    assert deserialize(serialize(schedule)).name == schedule.name


@settings(deadline=None, max_examples=50)
@given(step=st.integers(0, 10**7), first=st.integers(1, 1000), t_mul=st.floats(1.0, 4.0), alpha=st.floats(0, 1))
def test_restarts_stay_between_the_floor_and_the_initial_rate(step, first, t_mul, alpha):
    rate = schedules.CosineDecayRestarts(0.1, first, t_mul, alpha=alpha)(step)
    assert 0.1 * alpha - TIGHT <= rate <= 0.1 + TIGHT


def test_cosine_decay_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=5, T_mult=2)
    ours = schedules.CosineDecayRestarts(0.1, 5, t_mul=2.0)
    for step in range(40):
        assert agree(ours(step), optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), r"ExponentialDecay\(decay_steps=0\): give a number above 0"),
        (lambda: schedules.InverseTimeDecay(0.1, -1, 0.5), "decay_steps=-1"),
        (lambda: schedules.PolynomialDecay(0.1, 0), "decay_steps=0"),
        (lambda: schedules.CosineDecay(0.1, 0), "decay_steps=0"),
        (lambda: schedules.CosineDecay(0.1, 5, warmup_target=1.0, warmup_steps=-2), "warmup_steps=-2"),
        (lambda: schedules.CosineDecayRestarts(0.1, 0), "first_decay_steps=0"),
        (lambda: schedules.CosineDecayRestarts(0.1, 5, t_mul=0.5), r"t_mul=0.5\): give a number of 1 or more"),
        (lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2]), "2 boundaries need one value more and got 2"),
        (lambda: schedules.PiecewiseConstantDecay([2, 2], [0.1, 0.2, 0.3]), "must increase"),
        (lambda: schedules.ExponentialDecay(0.1, 5, decayrate=0.5), "did you mean 'decay_rate'"),
    ],
)
