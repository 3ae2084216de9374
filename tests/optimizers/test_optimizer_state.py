"""What an update leaves unchanged, and the state from which a run resumes."""

import numpy as np
import pytest
from every_optimizer import KINDS, every_kind, give_gradients, make_parameters, padding_of, values_of

from gpucnn import optimizers
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.optimizers import schedules

TAIL = {
    "weight_decay": 0.01,
    "global_clipnorm": 0.5,
    "use_ema": True,
    "ema_overwrite_frequency": 2,
    "gradient_accumulation_steps": 2,
}


@every_kind
def test_frozen_weights_and_their_slots_stay_as_they_are(kind, rng):
    parameters = make_parameters((3, 5), (70,), (4, 4), frozen=[1], regularizer="l2", constraint="max_norm")
    optimizer = KINDS[kind](**TAIL)
    optimizer.build(parameters)
    before, slots = values_of(parameters), optimizer.state()
    frozen = parameters.segments[1].span
    for _ in range(4):
        give_gradients(parameters, rng)
        optimizer.apply(parameters)
    optimizer.finalize(parameters)
    moved = [not np.array_equal(a, b) for a, b in zip(before, values_of(parameters), strict=True)]
    assert moved == [True, False, True]
    for name, slot in optimizer.state().items():
        if slot.shape == parameters.values.shape:
            assert np.array_equal(slot[frozen], slots[name][frozen]), name


def test_a_model_that_is_frozen_as_a_whole_only_counts():
    parameters = make_parameters((3,), frozen=[0])
    before = parameters.values.copy()
    optimizer = optimizers.Adam(**{**TAIL, "gradient_accumulation_steps": None})
    optimizer.build(parameters)
    optimizer.apply(parameters)
    assert np.array_equal(parameters.values, before)
    assert int(optimizer.iterations[0]) == 1


@every_kind
def test_padding_stays_zero(kind, rng):
    parameters = make_parameters((3, 5), (1,), (70,), regularizer="l1_l2", constraint="unit_norm")
    optimizer = KINDS[kind](**TAIL)
    optimizer.build(parameters)
    for _ in range(4):
        give_gradients(parameters, rng)
        optimizer.apply(parameters)
    flat = [s for s in optimizer.state().values() if s.shape == parameters.values.shape]
    for array in (parameters.values, parameters.gradients, *flat):
        assert padding_of(parameters, array).size > 0
        assert not padding_of(parameters, array).any()


def trained(optimizer, parameters, gradients):
    for gradient in gradients:
        for segment in parameters.segments:
            segment.weight.gradient[...] = gradient[: segment.size].reshape(segment.weight.shape)
        optimizer.apply(parameters)
    return parameters.values.copy()


@every_kind
@pytest.mark.parametrize("through", ["state", "slots"])
def test_a_run_continued_from_its_state_is_equal_to_the_bit(kind, through, rng):
    gradients = rng.normal(size=(7, 70)).astype(np.float32)
    tail = TAIL | {"gradient_accumulation_steps": 2}
    first = make_parameters((3, 5), (70,))
    optimizer = KINDS[kind](**tail)
    optimizer.build(first)
    trained(optimizer, first, gradients[:3])

    second = make_parameters((3, 5), (70,))
    resumed = KINDS[kind](**tail)
    resumed.build(second)
    second.values[...] = first.values
    if through == "state":
        resumed.set_state(optimizer.state())
    else:
        resumed.set_slots(second, {k: v.copy() for k, v in optimizer.slots(first).items()})
    assert np.array_equal(trained(optimizer, first, gradients[3:]), trained(resumed, second, gradients[3:]))
    for name, array in optimizer.state().items():
        assert array.tobytes() == resumed.state()[name].tobytes(), name


def test_slots_are_views_named_by_weight():
    parameters = make_parameters((3, 5), (70,))
    optimizer = optimizers.Adam(0.5, use_ema=True)
    optimizer.build(parameters)
    slots = optimizer.slots(parameters)
    names = {f"{slot}/layer_{i}/kernel" for slot in ("m", "v", "average") for i in (0, 1)}
    assert set(slots) == names | {"batches", "learning_rate"}
    assert slots["m/layer_0/kernel"].shape == (3, 5)
    slots["m/layer_0/kernel"][0, 0] = 7
    assert optimizer.state()["m"][0] == 7


def test_state_is_a_copy():
    parameters = make_parameters((3,))
    optimizer = optimizers.SGD(momentum=0.9)
    optimizer.build(parameters)
    optimizer.state()["m"][...] = 5
    assert not optimizer.state()["m"].any()


def test_a_wrong_state_is_refused_before_anything_changes():
    parameters = make_parameters((3,))
    optimizer = optimizers.SGD(0.5, momentum=0.9)
    optimizer.build(parameters)
    good = optimizer.state()
    ahead = {**good, "batches": np.array([9])}
    with pytest.raises(ArgumentError, match="the given state has no 'm'"):
        optimizer.set_state({k: v for k, v in ahead.items() if k != "m"})
    with pytest.raises(ArgumentError, match="the optimizer has no 'v'"):
        optimizer.set_state({**ahead, "v": good["m"]})
    with pytest.raises(ShapeError, match=r"'m' has shape \(64,\); the given array has shape \(3,\)"):
        optimizer.set_state({**ahead, "m": np.zeros(3)})
    assert int(optimizer.batches[0]) == 0


def test_an_optimizer_serves_one_model():
    parameters, others = make_parameters((3,)), make_parameters((3,))
    optimizer = optimizers.Adam()
    optimizer.build(parameters)
    trained(optimizer, parameters, np.ones((2, 3), np.float32))
    state = optimizer.state()
    optimizer.build(parameters)
    assert all(np.array_equal(state[k], v) for k, v in optimizer.state().items())
    with pytest.raises(ArgumentError, match="make a new Adam for each model"):
        optimizer.build(others)


@pytest.mark.parametrize("kind", ["adam", "nadam"])
def test_an_optimizer_built_again_starts_again(kind):
    parameters = make_parameters((3,))
    optimizer = KINDS[kind]()
    optimizer.build(parameters)
    fresh = optimizer.state()
    trained(optimizer, parameters, np.ones((2, 3), np.float32))
    optimizer.built = False
    optimizer.build(parameters)
    assert all(np.array_equal(fresh[k], v) for k, v in optimizer.state().items())


@every_kind
@pytest.mark.parametrize("rate", [0.1, schedules.ExponentialDecay(0.1, 2, 0.7)], ids=["a number", "a schedule"])
def test_rows_of_many_batches_are_those_of_each_one(kind, rate):
    optimizers_ = [KINDS[kind](weight_decay=0.01, use_ema=True) for _ in range(2)]
    parameters = [make_parameters((3, 4)) for _ in range(2)]
    for optimizer, its in zip(optimizers_, parameters, strict=True):
        optimizer.build(its)
        optimizer.apply(its)
        if callable(rate):
            optimizer.learning_rate = rate
    together, one_by_one = optimizers_
    before = together.state()
    for seen, row, after in zip(*together.next_rows(7), strict=True):
        assert seen == one_by_one.learning_rate
        np.testing.assert_array_equal(row, one_by_one.next_row())
        one_by_one.batches[0] += 1
        for name, value in after.items():
            assert value == one_by_one.counters[name], name
    for name, value in together.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    together.set_counters(after)
    for name, value in one_by_one.counters.items():
        assert together.counters[name] == value, name
