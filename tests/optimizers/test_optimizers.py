"""Updates of weights: the formulas, the shared arguments, what stays untouched, and the state."""

import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucnn import constraints, initializers, optimizers, regularizers, schedules
from gpucnn.config import deserialize, serialize
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.layers.layer import Layer
from gpucnn.ops import update
from gpucnn.parameters import Parameters

TINY = 1e-30
"""An epsilon that does not matter: for sums by hand, and where Keras and PyTorch put it in different places."""

EPS32, EPS64 = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)

KINDS = {
    "sgd": lambda **tail: optimizers.SGD(0.1, **tail),
    "momentum": lambda **tail: optimizers.SGD(0.1, momentum=0.9, **tail),
    "nesterov": lambda **tail: optimizers.SGD(0.1, momentum=0.9, nesterov=True, **tail),
    "adam": lambda **tail: optimizers.Adam(0.1, **tail),
    "amsgrad": lambda **tail: optimizers.Adam(0.1, amsgrad=True, **tail),
    "adamw": lambda **tail: optimizers.AdamW(0.1, **tail),
    "nadam": lambda **tail: optimizers.Nadam(0.1, **tail),
    "rmsprop": lambda **tail: optimizers.RMSprop(0.1, **tail),
    "rmsprop_full": lambda **tail: optimizers.RMSprop(0.1, momentum=0.9, centered=True, **tail),
    "adagrad": lambda **tail: optimizers.Adagrad(0.1, **tail),
    "adadelta": lambda **tail: optimizers.Adadelta(0.1, **tail),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make_parameters(*shapes, dtype=np.float32, frozen=(), **weight):
    """One layer for each shape, with one weight `layer_0/kernel`, …; the flat arrays in `dtype`."""
    layers = []
    for i, shape in enumerate(shapes):
        layer = Layer(name=f"layer_{i}")
        made = layer.add_weight(shape, initializers.RandomNormal(stddev=1.0, seed=i), name="kernel", **weight)
        made.path = f"layer_{i}/kernel"
        layer.trainable = i not in frozen
        layers.append(layer)
    parameters = Parameters(layers)
    if dtype != np.float32:
        parameters.values = parameters.values.astype(dtype)
        parameters.gradients = parameters.gradients.astype(dtype)
        for segment in parameters.segments:
            segment.weight.value = parameters.values[segment.span].reshape(segment.weight.shape)
            segment.weight.gradient = parameters.gradients[segment.span].reshape(segment.weight.shape)
    return parameters


def give_gradients(parameters, rng, scale=1.0):
    for segment in parameters.segments:
        segment.weight.gradient[...] = rng.normal(size=segment.weight.shape) * scale


def values_of(parameters):
    return [segment.weight.value.copy() for segment in parameters.segments]


def padding_of(parameters, array):
    inside = np.zeros(parameters.size, bool)
    for segment in parameters.segments:
        inside[segment.span] = True
    return array[~inside]


def scalar(optimizer, gradients, start=1.0):
    """The values that one weight takes, in float64, when it gets these gradients."""
    parameters = make_parameters((1,), dtype=np.float64)
    weight = parameters.segments[0].weight
    weight.value[...] = start
    optimizer.build(parameters)
    seen = []
    for gradient in gradients:
        weight.gradient[...] = gradient
        optimizer.apply(parameters)
        seen.append(float(weight.value[0]))
    return seen


# -- formulas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # w = 1 - 0.1·2; - 0.1·1
        (optimizers.SGD(0.1), [0.8, 0.7]),
        # m = -0.2, -0.18 - 0.1
        (optimizers.SGD(0.1, momentum=0.9), [0.8, 0.52]),
        # 1 + 0.9·(-0.2) - 0.2; then + 0.9·(-0.28) - 0.1
        (optimizers.SGD(0.1, momentum=0.9, nesterov=True), [0.62, 0.268]),
        # v = 0.4, 0.46; w = 1 - 0.2/√0.4; - 0.1/√0.46
        (
            optimizers.RMSprop(0.1, epsilon=TINY),
            [1 - 0.2 / math.sqrt(0.4), 1 - 0.2 / math.sqrt(0.4) - 0.1 / math.sqrt(0.46)],
        ),
        # v = 0.4, mean = 0.2: 0.4 - 0.04; v = 0.46, mean = 0.28: 0.46 - 0.0784
        (
            optimizers.RMSprop(0.1, centered=True, epsilon=TINY),
            [1 - 0.2 / 0.6, 1 - 0.2 / 0.6 - 0.1 / math.sqrt(0.3816)],
        ),
        # m = 0.2/√0.4; 0.5·m + 0.1/√0.46
        (
            optimizers.RMSprop(0.1, momentum=0.5, epsilon=TINY),
            [1 - 0.2 / math.sqrt(0.4), 1 - 1.5 * 0.2 / math.sqrt(0.4) - 0.1 / math.sqrt(0.46)],
        ),
        # v = 0.25 + 4, + 1
        (
            optimizers.Adagrad(0.1, initial_accumulator_value=0.25, epsilon=TINY),
            [1 - 0.2 / math.sqrt(4.25), 1 - 0.2 / math.sqrt(4.25) - 0.1 / math.sqrt(5.25)],
        ),
        # v = 2, 1.5; change = √1·2/√3, so delta = 2/3; √(5/3)·1/√2.5
        (
            optimizers.Adadelta(0.1, rho=0.5, epsilon=1.0),
            [1 - 0.2 / math.sqrt(3), 1 - 0.2 / math.sqrt(3) - 0.1 * math.sqrt(5 / 3) / math.sqrt(2.5)],
        ),
        # m = 0.2, 0.28; v = 0.004, 0.004996; both corrected: 2/2; (0.28/0.19)/√(0.004996/0.001999)
        (
            optimizers.Adam(0.1, epsilon=TINY),
            [0.9, 0.9 - 0.1 * (0.28 / 0.19) / math.sqrt(0.004996 / 0.001999)],
        ),
        # v = 2, 1.5, and the larger of the two is taken in both steps
        (
            optimizers.Adam(0.1, epsilon=TINY, beta_2=0.5, amsgrad=True),
            [0.9, 0.9 - 0.1 * (0.28 / 0.19) / math.sqrt(2.0 / 0.75)],
        ),
        # w - 0.1·0.5·w before each step of Adam
        (
            optimizers.AdamW(0.1, weight_decay=0.5, epsilon=TINY),
            [0.85, 0.85 * 0.95 - 0.1 * (0.28 / 0.19) / math.sqrt(0.004996 / 0.001999)],
        ),
    ],
)
def test_two_steps_worked_by_hand(optimizer, expected):
    for got, want in zip(scalar(optimizer, [2.0, 1.0]), expected, strict=True):
        assert abs(got - want) <= 1e-13


def test_epsilon_stands_where_keras_has_it():
    # Adam: √v + ε with uncorrected v; Nadam: with corrected v, which is 2² here; the others: √(v + ε).
    alpha = 0.1 * math.sqrt(0.001) / 0.1
    expected = {
        optimizers.Adam(0.1, epsilon=0.5): 1 - alpha * 0.2 / (math.sqrt(0.004) + 0.5),
        optimizers.Nadam(0.1, epsilon=0.5): scalar(optimizers.Nadam(0.1 / 1.25, epsilon=TINY), [2.0])[0],
        optimizers.RMSprop(0.1, epsilon=0.5): 1 - 0.2 / math.sqrt(0.4 + 0.5),
        optimizers.Adagrad(0.1, epsilon=0.5): 1 - 0.2 / math.sqrt(4.1 + 0.5),
        optimizers.Adadelta(0.1, epsilon=0.5): 1 - 0.1 * math.sqrt(0.5) * 2 / math.sqrt(0.05 * 4 + 0.5),
    }
    for optimizer, want in expected.items():
        assert abs(scalar(optimizer, [2.0])[0] - want) <= 1e-14


def test_rmsprop_gives_the_example_of_keras():
    assert abs(scalar(optimizers.RMSprop(0.1), [10.0], start=10.0)[0] - 9.683772) <= 5e-7


def test_nadam_two_steps_worked_by_hand():
    u1, u2, u3 = (0.9 * (1 - 0.5 * 0.96**t) for t in (1, 2, 3))
    first = (u2 * 0.2 / (1 - u1 * u2) + (1 - u1) * 2 / (1 - u1)) / (math.sqrt(0.004 / 0.001) + 1e-7)
    second = (u3 * 0.28 / (1 - u1 * u2 * u3) + (1 - u2) * 1 / (1 - u1 * u2)) / (math.sqrt(0.004996 / 0.001999) + 1e-7)
    got = scalar(optimizers.Nadam(0.1), [2.0, 1.0])
    assert abs(got[0] - (1 - 0.1 * first)) <= 1e-13
    assert abs(got[1] - (1 - 0.1 * first - 0.1 * second)) <= 1e-13


TORCH = {
    "sgd": (lambda: optimizers.SGD(0.1), "SGD", {}),
    "momentum": (lambda: optimizers.SGD(0.1, 0.9), "SGD", {"momentum": 0.9}),
    "nesterov": (lambda: optimizers.SGD(0.1, 0.9, True), "SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": (lambda: optimizers.Adam(0.1, epsilon=TINY), "Adam", {"eps": TINY}),
    "amsgrad": (lambda: optimizers.Adam(0.1, epsilon=TINY, amsgrad=True), "Adam", {"eps": TINY, "amsgrad": True}),
    "adamw": (lambda: optimizers.AdamW(0.1, 0.05, epsilon=TINY), "AdamW", {"eps": TINY, "weight_decay": 0.05}),
    "nadam": (lambda: optimizers.Nadam(0.1), "NAdam", {"eps": 1e-7, "momentum_decay": 1.0}),
    "rmsprop": (lambda: optimizers.RMSprop(0.1, epsilon=TINY), "RMSprop", {"alpha": 0.9, "eps": TINY}),
    "rmsprop_full": (
        lambda: optimizers.RMSprop(0.1, momentum=0.8, centered=True, epsilon=TINY),
        "RMSprop",
        {"alpha": 0.9, "eps": TINY, "momentum": 0.8, "centered": True},
    ),
    "adagrad": (
        lambda: optimizers.Adagrad(0.1, epsilon=TINY),
        "Adagrad",
        {"eps": TINY, "initial_accumulator_value": 0.1},
    ),
    "adadelta": (lambda: optimizers.Adadelta(0.1), "Adadelta", {"rho": 0.95, "eps": 1e-7}),
}


@pytest.fixture
def torch():
    """PyTorch with float64 as its default, in which its optimizers then keep their own numbers as well."""
    module = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = module.get_default_dtype()
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(before)


@pytest.mark.parametrize("kind", TORCH)
def test_agrees_with_torch_in_float64(kind, torch, rng):
    make, name, arguments = TORCH[kind]
    parameters = make_parameters((3, 4), (5,), dtype=np.float64)
    weights = [torch.tensor(value, requires_grad=True) for value in values_of(parameters)]
    ours, theirs = make(), getattr(torch.optim, name)(weights, lr=0.1, **arguments)
    ours.build(parameters)
    for _ in range(20):
        give_gradients(parameters, rng)
        for weight, segment in zip(weights, parameters.segments, strict=True):
            weight.grad = torch.tensor(segment.weight.gradient.copy())
        ours.apply(parameters)
        theirs.step()
    for weight, value in zip(weights, values_of(parameters), strict=True):
        # 20 steps of some 20 roundings each, on numbers of a few units; v - mean² cancels at most one digit.
        assert np.abs(weight.detach().numpy() - value).max() <= 20 * 20 * 10 * EPS64


# -- clipping, decay, regularisation -----------------------------------------------------------------------------------


def clipped(rng, scale=1.0, shapes=((3, 4), (50,), (1,)), **clip):
    """The gradients before and after clipping: SGD with rate 1 makes weights of 0 the negatives of its gradients."""
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


# -- accumulation, constraints, averages -------------------------------------------------------------------------------


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
    for got, want in zip(scalar(optimizer, [2.0, 2.0, 2.0]), [0.8, 0.75, 0.55], strict=True):
        assert abs(got - want) <= 1e-15


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


# -- what stays untouched ----------------------------------------------------------------------------------------------

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


# -- state -------------------------------------------------------------------------------------------------------------


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
def test_built_anew_it_starts_anew(kind):
    parameters = make_parameters((3,))
    optimizer = KINDS[kind]()
    optimizer.build(parameters)
    fresh = optimizer.state()
    trained(optimizer, parameters, np.ones((2, 3), np.float32))
    optimizer.built = False
    optimizer.build(parameters)
    assert all(np.array_equal(fresh[k], v) for k, v in optimizer.state().items())


# -- the learning rate -------------------------------------------------------------------------------------------------


def test_the_learning_rate_can_be_read_and_set():
    optimizer = optimizers.SGD(0.25)
    assert optimizer.learning_rate == 0.25
    optimizer.learning_rate = 0.125
    assert optimizer.learning_rate == 0.125
    assert scalar(optimizer, [1.0]) == [0.875]
    assert optimizer.get_config()["learning_rate"] == 0.125
    optimizer.learning_rate = np.float32(0.5)
    assert optimizer.learning_rate == 0.5
    optimizer.learning_rate = schedules.ExponentialDecay(0.1, 10, 0.5)
    assert optimizer.learning_rate == 0.1 * 0.5**0.1


def test_a_schedule_is_followed_and_not_overwritten():
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([0], [0.5, 0.25]))
    assert scalar(optimizer, [1.0, 1.0]) == [0.5, 0.25]
    with pytest.raises(ArgumentError, match="cannot be set while PiecewiseConstantDecay decides"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = schedules.ExponentialDecay(0.5, 1, 1.0)
    assert optimizer.learning_rate == 0.5


def test_a_function_gives_the_learning_rate_of_each_batch():
    rates = iter([0.5, 0.25])
    assert scalar(optimizers.SGD(lambda: next(rates)), [1.0, 1.0]) == [0.5, 0.25]


def test_a_schedule_of_ones_own():
    class Halving(schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 ** (step + 1)

    assert scalar(optimizers.SGD(Halving()), [1.0, 1.0]) == [0.5, 0.25]


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf, "0.1", None, True, [0.1]])
def test_a_wrong_learning_rate_is_refused(rate):
    with pytest.raises(ArgumentError, match="SGD: learning_rate="):
        optimizers.SGD(rate)


def test_schedules_are_found_where_keras_has_them():
    assert optimizers.schedules.ExponentialDecay is schedules.ExponentialDecay
    from gpucnn.optimizers.schedules import CosineDecay

    assert CosineDecay is schedules.CosineDecay
    assert importlib.import_module("gpucnn.optimizers.schedules") is schedules


# -- names and arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("sgd", optimizers.SGD),
        ("SGD", optimizers.SGD),
        ("adam", optimizers.Adam),
        ("Adam", optimizers.Adam),
        ("adamw", optimizers.AdamW),
        ("AdamW", optimizers.AdamW),
        ("nadam", optimizers.Nadam),
        ("rmsprop", optimizers.RMSprop),
        ("RMSprop", optimizers.RMSprop),
        ("adagrad", optimizers.Adagrad),
        ("adadelta", optimizers.Adadelta),
        (optimizers.Adam, optimizers.Adam),
    ],
)
def test_get_knows_the_names_of_keras(name, cls):
    assert type(optimizers.get(name)) is cls
    assert optimizers.get(None) is None


@pytest.mark.parametrize(
    ("cls", "defaults"),
    [
        (
            optimizers.SGD,
            {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": None, "name": "sgd"},
        ),
        (optimizers.Adam, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}),
        (optimizers.AdamW, {"learning_rate": 0.001, "weight_decay": 0.004, "beta_1": 0.9, "epsilon": 1e-7}),
        (optimizers.Nadam, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
        (optimizers.RMSprop, {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False}),
        (optimizers.Adagrad, {"learning_rate": 0.001, "initial_accumulator_value": 0.1, "epsilon": 1e-7}),
        (optimizers.Adadelta, {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7}),
        (
            optimizers.Adam,
            {"use_ema": False, "ema_momentum": 0.99, "clipnorm": None, "gradient_accumulation_steps": None},
        ),
    ],
)
def test_defaults_are_those_of_keras(cls, defaults):
    made = cls()
    assert {name: getattr(made, name) for name in defaults} == defaults


def test_a_description_gives_the_same_optimizer():
    made = optimizers.Adam(schedules.CosineDecay(0.1, 10), beta_1=0.8, clipnorm=1.0, name="mine")
    again = deserialize(serialize(made))
    assert (again.beta_1, again.clipnorm, again.name) == (0.8, 1.0, "mine")
    assert again.learning_rate == 0.1
    assert serialize(again) == serialize(made)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optimizers.Adam(lr=0.1), r"Adam\(\) has no argument lr=0.1: it is called learning_rate today"),
        (lambda: optimizers.SGD(decay=1e-6), "InverseTimeDecay"),
        (lambda: optimizers.SGD(0.1, momentun=0.9), "did you mean momentum"),
        (lambda: optimizers.SGD(0.1, clip_norm=0.9), "did you mean clipnorm"),
        (lambda: optimizers.Adam(nesterov=True), "its arguments are learning_rate, beta_1, .*clipnorm"),
        (lambda: optimizers.Adam(loss_scale_factor=128.0), "float32 and needs no loss scale"),
        (lambda: optimizers.AdamW(weight_decay=None), "AdamW: weight_decay=None must be a number"),
        (lambda: optimizers.SGD(clipnorm=1.0, clipvalue=0.5), "give only one of clipnorm=1.0 and clipvalue=0.5"),
        (lambda: optimizers.SGD(clipnorm=0.0), "clipnorm=0.0 must be above 0"),
        (lambda: optimizers.SGD(global_clipnorm=math.nan), "global_clipnorm=nan must be above 0"),
        (lambda: optimizers.SGD(weight_decay=-1.0), "weight_decay=-1.0 must be a finite number, 0 or above"),
        (lambda: optimizers.SGD(momentum=1.5), "momentum=1.5 must lie in 0 … 1"),
        (lambda: optimizers.SGD(use_ema=True, ema_momentum=1.5), "ema_momentum=1.5 must lie in 0 … 1"),
        (lambda: optimizers.SGD(use_ema=True, ema_overwrite_frequency=0), "must be an integer of 1 or more, or None"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=1), "must be an integer of 2 or more, or None"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=2.0), "gradient_accumulation_steps=2.0"),
        (lambda: optimizers.Adam(beta_1=1.0), "beta_1=1.0 must be at least 0 and below 1"),
        (lambda: optimizers.Nadam(beta_2=-0.1), "beta_2=-0.1 must be"),
        (lambda: optimizers.Adam(epsilon=0.0), "epsilon=0.0 must be above 0"),
        (lambda: optimizers.Adagrad(epsilon=1e-60), "epsilon=1e-60 must be above 0"),
        (lambda: optimizers.Adagrad(initial_accumulator_value=-1.0), "initial_accumulator_value=-1.0"),
        (lambda: optimizers.RMSprop(rho=2), "rho=2 must lie in"),
        (lambda: optimizers.RMSprop(momentum=-1), "momentum=-1 must lie in"),
        (lambda: optimizers.Adadelta(rho=math.nan), "rho=nan must lie in"),
        (lambda: optimizers.Lion, "optimizers.Lion is not in gpucnn: use one of SGD, Adam"),
        (lambda: optimizers.legacy, "leave the word legacy out"),
        (lambda: optimizers.rmsprop, "it is called RMSprop"),
        (lambda: optimizers.get("Adamax"), "optimizer 'Adamax' is not in gpucnn: use one of SGD, Adam"),
        (lambda: optimizers.get("adm"), "did you mean 'adam'"),
    ],
)
def test_wrong_arguments_and_old_names_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_the_old_name_of_the_learning_rate_is_refused_on_the_object():
    optimizer = optimizers.SGD()
    with pytest.raises(AttributeError, match="called learning_rate today"):
        optimizer.lr = 0.1
    assert not hasattr(optimizer, "lr")


def test_an_optimizer_of_ones_own():
    class SignDescent(optimizers.Optimizer):
        def change(self, values, gradients, row, **slots):
            values -= row[update.RATE] * np.sign(gradients)

    assert scalar(SignDescent(0.25), [5.0, -3.0]) == [0.75, 1.0]


def test_an_optimizer_without_change_says_so():
    class Mine(optimizers.Optimizer):
        pass

    with pytest.raises(NotImplementedError, match="Mine must define change"):
        scalar(Mine(0.1), [1.0])


# -- the ops -----------------------------------------------------------------------------------------------------------

OPS = [o for o in vars(update).values() if isinstance(o, update.Op)]
CASES = [pytest.param(o, c, id=f"{o.name}-{c.name}") for o in OPS for c in o.cases if not c.bench]


@pytest.mark.parametrize(("op", "case"), CASES)
def test_the_body_in_float32_is_as_exact_as_kernels_must_be(op, case, rng):
    drawn = [draw and draw.sample(rng) for draw in case.operands]
    single, double = ([a if a is None else a.astype(t) for a in drawn] for t in (np.float32, np.float64))
    got, want = op(*single, **case.params), op.reference(*double, **case.params)
    for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True):
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


def test_sums_want_a_flat_array():
    with pytest.raises(ShapeError, match="must be flat and has shape"):
        update.norm_parts(np.zeros((2, 2)))
