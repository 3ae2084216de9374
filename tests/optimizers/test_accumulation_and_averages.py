"""Gradients accumulated over batches, constraints, and averages of the weights."""

import numpy as np
from every_optimizer import EPS32, KINDS, every_kind, give_gradients, make_parameters, scalar, values_of

from gpucnn import constraints, optimizers
from gpucnn.optimizers import schedules


@every_kind
def test_accumulated_batches_give_the_update_of_their_mean(kind, rng):
    gradients = rng.integers(-8, 9, (8, 12)).astype(np.float32)

    def run(optimizer, batches):
        parameters = make_parameters((3, 4))
        optimizer.build(parameters)
        for batch in batches:
            parameters.gradients[:12] = batch
            optimizer.apply(parameters)
        return values_of(parameters)[0], optimizer

    accumulated, optimizer = run(KINDS[kind](gradient_accumulation_steps=4), gradients)
    at_once, _ = run(KINDS[kind](), [gradients[:4].mean(axis=0), gradients[4:].mean(axis=0)])
    assert np.array_equal(accumulated, at_once)
    assert (int(optimizer.iterations[0]), int(optimizer.batches[0])) == (2, 8)


def test_nothing_moves_until_the_accumulation_is_complete(rng):
    parameters = make_parameters((3, 4))
    before = values_of(parameters)[0]
    optimizer = optimizers.SGD(0.1, gradient_accumulation_steps=3, weight_decay=0.1)
    optimizer.build(parameters)
    for batch in range(3):
        assert np.array_equal(values_of(parameters)[0], before)
        assert (int(optimizer.iterations[0]), int(optimizer.batches[0])) == (0, batch)
        give_gradients(parameters, rng)
        optimizer.apply(parameters)
    assert not np.array_equal(values_of(parameters)[0], before)
    assert int(optimizer.iterations[0]) == 1


def test_a_schedule_counts_batches_and_not_updates(rng):
    optimizer = optimizers.SGD(schedules.InverseTimeDecay(1.0, 1, 1.0), gradient_accumulation_steps=2)
    parameters = make_parameters((2,))
    optimizer.build(parameters)
    for batch in range(4):
        assert optimizer.learning_rate == 1 / (1 + batch)
        optimizer.apply(parameters)


def test_constraints_hold_after_every_update(rng):
    parameters = make_parameters((3, 4), (6,), constraint=constraints.MaxNorm(0.5))
    optimizer = optimizers.Adam(0.5)
    optimizer.build(parameters)
    for _ in range(3):
        give_gradients(parameters, rng)
        optimizer.apply(parameters)
        for value in values_of(parameters):
            assert np.sqrt(np.square(value, dtype=np.float64).sum(axis=0)).max() <= 0.5 * (1 + 16 * EPS32)


def test_the_average_worked_by_hand():
    # weights 1 → 0.8, 0.6, 0.4; average 0.8, 0.75·0.8 + 0.25·0.6 = 0.75, 0.75·0.75 + 0.25·0.4 = 0.6625
    parameters = make_parameters((1,), dtype=np.float64)
    parameters.values[0] = 1.0
    optimizer = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75)
    optimizer.build(parameters)
    for average in (0.8, 0.75, 0.6625):
        parameters.gradients[0] = 2.0
        optimizer.apply(parameters)
        assert abs(optimizer.state()["average"][0] - average) <= 1e-15
    assert abs(parameters.values[0] - 0.4) <= 1e-15
    optimizer.finalize(parameters)
    assert abs(parameters.values[0] - 0.6625) <= 1e-15


def test_the_average_overwrites_the_weights_at_its_frequency():
    optimizer = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=2)
    # second update: weight 0.6, average 0.75, overwritten; third: 0.55
    for got, target in zip(scalar(optimizer, [2.0, 2.0, 2.0]), [0.8, 0.75, 0.55], strict=True):
        assert abs(got - target) <= 1e-15


def test_the_average_obeys_the_constraint(rng):
    parameters = make_parameters((50,), constraint="non_neg")
    optimizer = optimizers.SGD(1.0, use_ema=True)
    optimizer.build(parameters)
    for _ in range(3):
        give_gradients(parameters, rng)
        optimizer.apply(parameters)
    optimizer.finalize(parameters)
    assert values_of(parameters)[0].min() >= 0


def test_the_average_of_a_weight_that_thaws_starts_from_its_value():
    parameters = make_parameters((2,), frozen=[0])
    parameters.values[:2] = 1.0
    optimizer = optimizers.SGD(0.1, use_ema=True)
    optimizer.build(parameters)
    optimizer.apply(parameters)
    parameters.segments[0].layer.trainable = True
    optimizer.apply(parameters)
    optimizer.finalize(parameters)
    assert np.abs(values_of(parameters)[0] - 1.0).max() <= EPS32


def test_finalize_without_average_changes_nothing(rng):
    parameters = make_parameters((3,))
    before = values_of(parameters)[0]
    optimizer = optimizers.SGD()
    optimizer.build(parameters)
    optimizer.finalize(parameters)
    assert np.array_equal(values_of(parameters)[0], before)
