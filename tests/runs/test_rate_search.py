"""The learning-rate range test: its suggestion trains well, and it leaves everything else alone."""

import os

import numpy as np
import pytest

import gpucnn
from gpucnn.errors import ArgumentError
from gpucnn.runs import commands, rate_search
from gpucnn.runs.settings import RunSettings

SLIDES = RunSettings(dataset="digits", model="slides", optimizer="adam", device="cpu")


@pytest.fixture(scope="module")
def found():
    return rate_search.search(SLIDES, 80, 1e-6, 10.0)


def test_rates_grow_by_a_constant_factor_until_training_diverges(found):
    factors = np.array(found.rates[1:]) / found.rates[:-1]
    assert found.rates[0] == 1e-6 and np.allclose(factors, (10.0 / 1e-6) ** (1 / 79))
    assert len(found.rates) < 80 and found.ended is not None
    assert len(found.losses) == len(found.smoothed) == len(found.rates)


def test_the_suggestion_trains_better_than_much_smaller_and_larger_rates(found, tmp_path):
    accuracy = {}
    for factor in (0.01, 1, 100):
        settings = RunSettings(**vars(SLIDES) | {"learning_rate": factor * found.suggestion, "epochs": 3})
        run = commands.train(settings, tmp_path / f"r{factor}", pictures=False)
        accuracy[factor] = run.record["test_accuracy"]
    assert accuracy[1] > 0.85 and accuracy[1] > accuracy[0.01] + 0.2 and accuracy[1] > accuracy[100] + 0.2


def test_nothing_of_the_user_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = gpucnn.Sequential([gpucnn.Input((2,)), gpucnn.layers.Dense(2)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    rate_search.search(SLIDES, 10, 1e-4, 1e-2)
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))
    assert os.listdir(tmp_path) == []


def test_equal_seeds_give_equal_losses():
    first, second = (rate_search.search(SLIDES, 12, 1e-4, 1e-2) for _ in range(2))
    assert first == second and first.ended is None
    other = rate_search.search(RunSettings(**vars(SLIDES) | {"seed": 1}), 12, 1e-4, 1e-2)
    assert other.losses != first.losses


def test_the_steepest_fall_is_found_on_a_curve_worked_out_by_hand():
    rates = [10.0 ** (k / 10) for k in range(-60, 1)]
    logs = np.log10(rates)
    valley = 2.3 - 2 / (1 + np.exp(-8 * (logs + 3))) + 50 * np.maximum(logs + 1.5, 0)
    # The logistic curve is symmetric about its steepest point, 1e-3.
    assert rate_search._steepest(rates, list(valley)) == pytest.approx(1e-3)
    assert rate_search._steepest(rates, sorted(valley)) is None
    # Driven up, it falls back more steeply, to the loss of a model that guesses.
    hill = 2.3 - 2 / (1 + np.exp(-8 * (logs + 3))) + 2 * (logs > -1.5) + 40 * np.exp(-(((logs + 1.5) / 0.2) ** 2))
    assert rate_search._steepest(rates, list(hill)) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("settings", "numbers", "said"),
    [
        ({"learning_rate": 0.1}, {}, "leave out the learning rate"),
        ({"schedule": "cosine"}, {}, "leave out the learning rate"),
        ({}, {"steps": 9}, "steps=9 are too few"),
        ({}, {"lowest": 1.0}, "from 1 to 1"),
        ({}, {"lowest": 0.0}, "from 0 to 1"),
        ({}, {"highest": float("inf")}, "to inf"),
        ({}, {"lowest": 1e20, "highest": 1e30}, "begin with a lower rate"),
        ({"model": "slide"}, {}, "did you mean 'slides'"),
    ],
)
def test_what_cannot_be_tested_is_refused(settings, numbers, said):
    with pytest.raises(ArgumentError, match=said):
        rate_search.search(RunSettings(**vars(SLIDES) | settings), **numbers)
