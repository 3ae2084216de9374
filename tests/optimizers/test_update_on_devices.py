"""Optimizers, regularizers and constraints where the host cannot touch arrays: ops do the work."""

import needs
import numpy as np
import pytest
from every_optimizer import EPS32, KINDS, every_kind

import gpucnn
from gpucnn import constraints, initializers, optimizers, regularizers
from gpucnn.devices import choose, emulator, storage
from gpucnn.dispatch.case import Case, real
from gpucnn.dispatch.check import disagreement
from gpucnn.errors import ArgumentError
from gpucnn.layers.layer import Layer
from gpucnn.layers.parameters import Parameters
from gpucnn.ops import constraint, update

pytestmark = needs.emulator_here

STEPS = 5
BACKENDS = ("cuda", "numba")
on_each_backend = pytest.mark.parametrize("backend", BACKENDS)

TAILS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.5, "use_ema": True, "ema_momentum": 0.75},
    "clipvalue": {"clipvalue": 0.25, "weight_decay": 0.01, "gradient_accumulation_steps": 2},
    "global_clipnorm": {"global_clipnorm": 1.0, "use_ema": True, "ema_overwrite_frequency": 2, "weight_decay": 0.01},
}


class Cubic(regularizers.Regularizer):
    """A user's regularizer, in NumPy."""

    def __call__(self, x):
        return float(np.sum(np.abs(x) ** 3))

    def gradient(self, x):
        return 3 * x * np.abs(x)


class Bounded(constraints.MaxNorm):
    """A user's constraint that extends one of gpucnn's."""

    def __call__(self, w):
        return np.clip(super().__call__(w), -0.5, 0.5)


def make_parameters():
    """Filters, a frozen bias, a dense weight and more, each with a different condition."""
    layers = []
    for i, (shape, regularizer, condition) in enumerate(
        [
            ((3, 3, 2, 5), regularizers.L1L2(0.01, 0.02), constraints.MaxNorm(0.9, axis=[0, 1, 2])),
            ((7,), None, None),
            ((70, 3), regularizers.L2(0.01), constraints.MinMaxNorm(0.5, 2.0, rate=0.5)),
            ((67,), regularizers.L1(0.01), constraints.NonNeg()),
            ((6, 4), Cubic(), Bounded(1.0, axis=-1)),
            ((4, 9), None, constraints.UnitNorm(1)),
        ]
    ):
        layer = Layer(name=f"layer_{i}")
        start = initializers.RandomNormal(stddev=0.5, seed=i)
        weight = layer.add_weight(shape, start, name="kernel", regularizer=regularizer, constraint=condition)
        weight.path = f"layer_{i}/kernel"
        layer.trainable = i != 1
        layers.append(layer)
    return Parameters(layers)


def trained(optimizer, parameters=None, first=0):
    """Everything that five steps leave behind, on the host."""
    parameters = parameters or make_parameters()
    optimizer.build(parameters)
    for step in range(first, first + STEPS):
        gradients = np.random.default_rng(step)
        for segment in parameters.segments:
            gradient = gradients.normal(size=segment.weight.shape).astype(np.float32)
            storage.write(segment.weight.gradient, gradient)
        optimizer.apply(parameters)
    values = storage.get(parameters.values).copy()
    optimizer.finalize(parameters)
    return {
        "values": values,
        "final": storage.get(parameters.values),
        "penalty": np.array(optimizer.penalty(parameters)),
        **optimizer.state(),
    }


@pytest.mark.parametrize("tail", TAILS)
@every_kind
@on_each_backend
def test_an_optimizer_agrees_with_numpy(backend, kind, tail):
    with gpucnn.using("numpy", device="cpu"):
        expected = trained(KINDS[kind](**TAILS[tail]))
    with gpucnn.using(backend, device="emulator"):
        got = trained(KINDS[kind](**TAILS[tail]))
    assert got.keys() == expected.keys()
    for name, target in expected.items():
        # Five steps of some 20 roundings each, on numbers of a few units; v - mean² cancels at most one digit.
        bound = STEPS * 20 * 10 * EPS32 * max(1.0, float(np.abs(target).max()))
        assert np.abs(got[name] - target).max() <= bound, name


@on_each_backend
def test_no_step_reads_what_was_never_written(backend):
    with gpucnn.using(backend, device="emulator"), emulator.running(mode="check"):
        trained(optimizers.Adam(0.1, **TAILS["global_clipnorm"]))


@on_each_backend
@pytest.mark.parametrize("through", ["state", "slots"])
def test_a_run_continued_from_its_state_ends_where_it_would_have(backend, through):
    tail = {"clipnorm": 0.5, "use_ema": True}
    first, second = KINDS["nadam"](**tail), KINDS["nadam"](**tail)
    with gpucnn.using(backend, device="emulator"):
        parameters = make_parameters()
        trained(first, parameters)
        weights = storage.get(parameters.values)
        saved = first.state() if through == "state" else first.slots(parameters)
        saved = {name: array.copy() for name, array in saved.items()}  # on the host, with the counters
        expected = trained(first, parameters, first=STEPS)
    with gpucnn.using(backend, device="emulator"):
        resumed = make_parameters()
        second.build(resumed)
        storage.write(resumed.values, weights)
        if through == "state":
            second.set_state(saved)
        else:
            second.set_slots(resumed, saved)
        got = trained(second, resumed, first=STEPS)
    for name, target in expected.items():
        assert got[name].tobytes() == target.tobytes(), name


def test_slots_move_with_the_weights():
    optimizer = optimizers.Adam(0.1)
    parameters = make_parameters()
    before = trained(optimizer, parameters)
    with gpucnn.using("cuda", device="emulator"):
        parameters.bring()
        optimizer.build(parameters)
        assert all(choose.current().owns(slot) for slot in optimizer._slots.values())
        assert np.array_equal(optimizer.state()["m"], before["m"])
        trained(optimizer, parameters, first=STEPS)


@on_each_backend
@pytest.mark.parametrize("fill", [3.0e38, 1e-36, 0.0])
def test_a_norm_of_any_size_can_be_clipped(backend, fill):
    x = np.full(5000, fill, np.float32)
    x[::3] *= -0.5
    norm = float(np.linalg.norm(x.astype(np.float64)))
    for limit in (norm / 128 or 1.0, min(2 * norm, 3e38) or 1.0):
        with gpucnn.using(backend, device="emulator"):
            gradients = storage.put(x)
            update.clip_by_norm(gradients, update.norm_parts(gradients), limit=limit)
            got = storage.get(gradients)
        target = x * min(1.0, limit / norm if norm else 1.0)
        # Numbers below the normal ones, 2⁻¹²⁶, may be taken as 0.
        assert np.abs(got - target).max() <= max(8 * EPS32 * np.abs(target).max(), 2.0**-126)


@on_each_backend
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 4999])
def test_a_norm_does_not_lose_a_gradient_that_is_not_finite(backend, bad, at):
    x = np.linspace(-1, 1, 5000, dtype=np.float32)
    x[at] = bad
    x[2500] = -np.inf
    with gpucnn.using(backend, device="emulator"):
        gradients = storage.put(x)
        parts = update.norm_parts(gradients)
        update.clip_by_norm(gradients, parts, limit=1.0)
        parts, got = storage.get(parts), storage.get(gradients)
    assert np.array_equal(parts, update.norm_parts(x), equal_nan=True)
    with np.errstate(invalid="ignore"):
        update.clip_by_norm(x, parts, limit=1.0)
    assert np.array_equal(got, x, equal_nan=True)


@on_each_backend
def test_nan_stays_nan(backend):
    x = np.array([np.nan, -np.inf, np.inf, -2.0, 3.0], np.float32)
    calls = (
        lambda a: update.clip_by_value(a, limit=1.0),
        update.non_neg,
        lambda a: update.regularize(a, storage.put(x), l1=0.5, l2=0.25),
        lambda a: update.regularize(a, storage.put(x), l1=0.5, l2=0.0),
    )
    for call in calls:
        with np.errstate(invalid="ignore"):
            expected = call(x.copy())
        with gpucnn.using(backend, device="emulator"):
            got = storage.get(call(storage.put(x)))
        assert np.array_equal(got, expected, equal_nan=True)


def kernels_of(op, backend):
    return [k for k in op.kernels((backend,)).values() if k.backend == backend]


@on_each_backend
@pytest.mark.parametrize("size", [2, 3, 4, 5, 1023, 1024, 1025, 4096, 4097, 8192])
def test_kernels_agree_at_any_length(backend, size):
    operands = (real(size),) * 2 + (real(size, low=0.1, high=1.0),) * 2 + (real(6),)
    cases = {
        update.adadelta: Case("size", operands, {"rho": 0.9, "epsilon": 1e-3}),
        update.norm_parts: Case("size", (real(size),)),
        update.penalty: Case("size", (real(size),), {"l1": 0.5, "l2": 0.0}),
    }
    with gpucnn.using(backend, device="emulator"):
        for op, case in cases.items():
            for kernel in kernels_of(op, backend):
                assert disagreement(kernel, case) is None


@on_each_backend
def test_an_array_that_is_read_may_start_anywhere_and_one_that_changes_may_not(backend):
    x, g = (np.random.default_rng(i).normal(size=1030).astype(np.float32) for i in (0, 1))
    row = np.full(6, 0.25, np.float32)
    with gpucnn.using(backend, device="emulator"):
        values, gradients = storage.put(x), storage.put(g)
        update.sgd(values[:-3], gradients[3:], storage.put(row))
        with pytest.raises(ArgumentError, match="sgd updates values in place"):
            update.sgd(values[3:], gradients[:-3], storage.put(row))
        parts = storage.get(update.norm_parts(gradients[1:]))
        got = storage.get(values)
    assert np.array_equal(got[-3:], x[-3:])
    assert np.abs(got[:-3] - (x[:-3] - 0.25 * g[3:])).max() <= 4 * EPS32 * 4
    assert np.allclose(parts, update.norm_parts(g[1:]), rtol=40 * EPS32, atol=0)


@on_each_backend
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 1), (0,)),
        ((1, 5), (0,)),
        ((5, 1), (1,)),
        ((1, 3, 1, 4), (0, 3)),
        ((4097,), (0,)),
        ((2, 4096, 3), (1,)),
        ((300, 2), (0, 1)),
        ((9, 8, 7, 6, 5), (1, 2)),
        ((2, 3, 4, 5, 6), (0, 1, 4)),
    ],
)
def test_norms_are_taken_over_any_axes(backend, shape, axes):
    case = Case("shape", (real(*shape),), {"min_value": 0.5, "max_value": 0.75, "rate": 0.25, "axes": axes})
    with gpucnn.using(backend, device="emulator"):
        for kernel in kernels_of(constraint.min_max_norm, backend):
            assert disagreement(kernel, case) is None


@on_each_backend
def test_the_penalty_can_stay_on_the_device(backend):
    with gpucnn.using(backend, device="emulator"):
        parameters = make_parameters()
        total = optimizers.SGD().penalty_on_device(parameters)
        assert choose.current().owns(total)
        assert total.shape == (1,)
        assert float(storage.get(total)[0]) == optimizers.SGD().penalty(parameters)
