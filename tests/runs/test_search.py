"""A search: optuna chooses combinations, each from what the earlier ones reached; resumable."""

from dataclasses import replace

import numpy as np
import pytest
from needs import optuna_here

from gpucnn.errors import ArgumentError, Interrupted
from gpucnn.runs import search, sweep, trials
from gpucnn.runs.search import Span
from gpucnn.runs.settings import RunSettings

BASE = RunSettings(
    data="noise.npz",
    **{"model": "slides", "batch_size": 12, "epochs": 1, "backend": "numpy", "device": "cpu"},
    validation_split=0.25,
)
AXES = {"learning_rate": Span(1e-4, 1.0), "optimizer": ["sgd", "adam"]}


@pytest.fixture(autouse=True)
def _data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.zeros((12, 28, 28), np.uint8)
    np.savez("noise.npz", x_train=x, y_train=np.arange(12) % 2, x_test=x, y_test=np.arange(12) % 2)


def score(values):
    """Highest at the rate 0.01 with Adam."""
    return 0.9 - 0.1 * abs(np.log10(values["learning_rate"]) + 2) - 0.2 * (values.get("optimizer") == "sgd")


class Pool:
    """Stands in for the processes: a trial ends at once, and reaches `score`."""

    def __init__(self, monkeypatch):
        self.trained, self.ended, self.stop_after, self.fails = [], set(), None, lambda values: False
        monkeypatch.setattr(trials, "_in_processes", self.train)
        monkeypatch.setattr(sweep, "_read", self.read)
        monkeypatch.setattr(sweep, "_write", lambda result: None)

    def train(self, tasks, count, jobs):
        for task in tasks:
            self.trained.append(task)
            if len(self.trained) == self.stop_after:
                yield trials.Outcome(task.folder, "interrupted")
                return
            self.ended.add(task.folder)
            yield trials.Outcome(task.folder, "finished")

    def read(self, trial, ranked_by, outcome=None):
        assert ranked_by == "validation accuracy"
        if outcome is not None and outcome.status != "finished":
            return replace(trial, status=outcome.status)
        if trial.folder not in self.ended:
            return trial
        if self.fails(trial.values):
            return replace(trial, status="failed", error="the loss is nan")
        figures = {"score": score(trial.values) + 0.001 * trial.seed, "seconds": 1.0}
        return replace(trial, status="finished", figures=figures)


@pytest.fixture
def pool(monkeypatch):
    return Pool(monkeypatch)


def found(count, seeds=1, **settings):
    return search.run(replace(BASE, **settings), AXES, count, seeds, folder="s", jobs=1)


@optuna_here
def test_combinations_are_chosen_in_the_ranges_and_later_ones_near_the_best(pool):
    result = found(30)
    rates = [trial.values["learning_rate"] for trial in result.trials]
    assert len(pool.trained) == len(rates) == 30
    assert all(1e-4 <= rate <= 1 and rate == float(f"{rate:.3g}") for rate in rates)
    early, late = (
        np.mean([score(trial.values) for trial in part]) for part in (result.trials[:10], result.trials[20:])
    )
    assert late > early + 0.05
    assert result.rows[0].mean == max(score(trial.values) for trial in result.trials)


@optuna_here
def test_each_seed_of_a_combination_is_trained_and_their_mean_is_its_score(pool):
    result = found(3, seeds=2)
    assert [(trial.seed, len(row.scores)) for row in result.rows for trial in result.trials[:2]] == [(0, 2), (1, 2)] * 3
    assert len({trial.folder for trial in result.trials}) == len(pool.trained) == 6


@optuna_here
def test_an_interrupted_search_goes_on_with_the_combination_that_was_trained(pool):
    pool.stop_after = 4
    with pytest.raises(Interrupted, match="3 of 6 trials are finished: give the same command again"):
        found(6)
    interrupted = pool.trained[-1]
    result = found(6)
    assert pool.trained[4].folder == interrupted.folder
    assert len(pool.trained) == 7 and len(result.trials) == 6
    assert len(found(8).trials) == 8 and len(pool.trained) == 9
    assert len(found(8, epochs=2).trials) == 8, "other settings are another search"


@optuna_here
def test_equal_seeds_choose_equal_combinations(pool):
    first = [trial.values for trial in found(4).trials]
    assert [trial.values for trial in search.run(BASE, AXES, 4, folder="t", jobs=1).trials] == first
    assert [trial.values for trial in search.run(replace(BASE, seed=1), AXES, 4, folder="t", jobs=1).trials] != first


@optuna_here
def test_a_combination_that_fails_counts_and_is_avoided(pool):
    pool.fails = lambda values: values["optimizer"] == "sgd"
    result = found(25)
    assert {trial.status for trial in result.trials if trial.values["optimizer"] == "sgd"} == {"failed"}
    late = [trial.values["optimizer"] for trial in result.trials[15:]]
    assert late.count("adam") > 7
    assert len(found(25).trials) == sum(trial.status == "finished" for trial in result.trials), "nothing is left to try"


@optuna_here
def test_settings_that_do_not_fit_are_said_and_count(pool):
    said = []
    axes = {"model": ["slides", "sides"], "learning_rate": Span(0.1, 0.2)}
    settings = replace(BASE, model=None, optimizer="adam")
    search.run(settings, axes, 6, folder="s", jobs=1, say=said.append)
    assert any("there is no model 'sides'" in line for line in said)
    assert 0 < len(pool.trained) < 6


@pytest.mark.parametrize(
    ("axes", "settings", "said"),
    [
        ({}, {}, "a search needs an axis"),
        ({"learning_rat": Span(0.1, 1.0)}, {}, "did you mean 'learning_rate'"),
        (AXES, {"validation_split": None}, "validation images"),
        (AXES, {"optimizer": "sgd"}, "optimizer is both an axis and set to sgd"),
        ({"validation_split": Span(0.1, 0.2)}, {"validation_split": None}, "on the same images"),
    ],
)
@optuna_here
def test_what_cannot_be_searched_is_refused(axes, settings, said):
    with pytest.raises(ArgumentError, match=said):
        search.run(replace(BASE, **settings), axes, 2, folder="s", jobs=1)


def test_an_empty_range_is_refused():
    with pytest.raises(ArgumentError, match=r"the range 2\.\.1 is empty"):
        Span(2, 1)


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ArgumentError, match=r"pip install 'gpucnn\[search\]'"):
        search.run(BASE, AXES, 2, folder="s", jobs=1)


class Chooser:
    """The side of optuna that a range uses."""

    def suggest_int(self, name, low, high, log):
        return (name, low, high, log) and high

    def suggest_float(self, name, low, high, log):
        self.log = log
        return 0.0123456


def test_a_range_of_whole_numbers_has_whole_numbers_and_a_wide_one_is_logarithmic():
    chooser = Chooser()
    assert Span(1, 3).choose(chooser, "filters") == 3
    assert Span(0.001, 0.1).choose(chooser, "learning_rate") == 0.0123 and chooser.log
    assert Span(0.0, 0.1).choose(chooser, "weight_decay") == 0.0123 and not chooser.log
