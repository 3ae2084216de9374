"""The formulas of the optimizers: worked by hand, Keras' examples, and PyTorch."""

import math

import numpy as np
import pytest
from every_optimizer import EPS64, TINY, give_gradients, make_parameters, scalar, values_of

from gpucnn import optimizers


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
    for got, target in zip(scalar(optimizer, [2.0, 1.0]), expected, strict=True):
        assert abs(got - target) <= 1e-13


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
    for optimizer, target in expected.items():
        assert abs(scalar(optimizer, [2.0])[0] - target) <= 1e-14


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
    """PyTorch with float64 as its default, in which its optimizers then keep their state too."""
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
