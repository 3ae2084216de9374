"""Kernels that are chosen by measurement."""

import json
import time

import numpy as np
import pytest
from click.testing import CliRunner

import gpucnn
from gpucnn.cli import main
from gpucnn.dispatch import choice
from gpucnn.dispatch import op as op_module
from gpucnn.errors import ArgumentError
from gpucnn.profiling import timing, tuning


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "_kept", {})
    monkeypatch.setattr(tuning, "decisions", {})
    monkeypatch.setattr(tuning, "_EFFORTS", dict.fromkeys(tuning._EFFORTS, timing.Effort(3, 0.0, 1.0, 0.1)))


@pytest.fixture
def taken(monkeypatch):
    """A function that calls an op with several kernels twice, and returns the algorithm that computed the second
    call. The kernels are forgotten afterwards."""
    for name in ("_ops", "_kernels"):
        monkeypatch.setattr(op_module, name, dict(getattr(op_module, name)))
    monkeypatch.setattr(choice, "_op_names", dict(choice._op_names))
    calls = []

    @op_module.op(outputs=lambda x: x, prefer=("slow", "quick", "wrong"))
    def doubled(x):
        return x + x

    def register(algorithm, seconds, factor):
        @op_module.kernel(doubled, algorithm, "numpy")
        def launch(y, x):
            calls.append(algorithm)
            if seconds:  # even sleeping for no time lets others run
                time.sleep(seconds)
            y[...] = factor * x

    for algorithm, seconds, factor in (("slow", 0.004, 2), ("quick", 0.001, 2), ("wrong", 0, 3), ("unlisted", 0, 2)):
        register(algorithm, seconds, factor)

    def take(forget=False, **chosen):
        if forget:  # what a process knows
            doubled._decisions.clear()
            monkeypatch.setattr(tuning, "_kept", {})
        with gpucnn.using("numpy", device="cpu", **chosen):
            doubled(np.ones(3, np.float32))
            calls.clear()
            doubled(np.ones(3, np.float32))
        return calls[-1]

    yield take
    choice.changed()


@pytest.mark.filterwarnings("ignore:not chosen")
def test_the_fastest_kernel_that_is_right_computes_the_call(taken):
    assert taken() == "slow"
    assert taken(tune="fast") == "quick"
    assert taken(tune="full") == "unlisted"
    assert taken(tune="fast", doubled="slow") == "slow"
    assert taken(tune="off") == "slow"


def test_a_wrong_kernel_is_named(taken):
    with pytest.warns(UserWarning, match=r"^not chosen: .*doubled.*'the call'.*3 of 3 values are wrong$"):
        taken(tune="fast")


@pytest.mark.filterwarnings("ignore:not chosen")
def test_choices_hold_in_later_processes(taken, monkeypatch):
    taken(tune="fast")
    monkeypatch.setattr(tuning, "_measured", None)
    assert taken(forget=True, tune="fast") == "quick"


@pytest.mark.filterwarnings("ignore:not chosen")
def test_a_damaged_file_is_measured_again(taken, tmp_path):
    taken(tune="fast")
    (file,) = (tmp_path / "tuning").iterdir()
    file.write_text("{")
    assert taken(forget=True, tune="fast") == "quick"
    assert json.loads(file.read_text())


def test_little_gain_changes_nothing(taken, monkeypatch):
    monkeypatch.setattr(tuning, "_measured", lambda candidates, case: {"slow": 1.0, "quick": 0.96, "wrong": "wrong"})
    assert taken(tune="fast") == "slow"


def test_a_tuned_training_gives_the_same_weights_again(small_model, problem):
    weights = []
    for _ in range(2):
        gpucnn.utils.set_random_seed(0)
        gpucnn.use("auto", device="cpu", tune="fast")
        model = small_model()
        model.fit(*problem, epochs=2, batch_size=32, verbose=0)
        weights.append(model.get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"tune": "quick"}, r"tune='quick' is unknown: use one of off, fast, full"),
        ({"device": "emulator", "tune": "fast"}, r"tune='fast': times on emulator mean nothing"),
    ],
)
def test_what_cannot_be_tuned_says_so(choice, message):
    with pytest.raises(ArgumentError, match=message), gpucnn.using(**choice):
        pass


def test_the_command_shows_each_decision():
    done = CliRunner().invoke(main, ["kernels", "tune", "mlearning", "--batch-size", "2", "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["model"], record["device"]) == ("mlearning", "cpu")
    for decision in record["decisions"]:
        assert {decision["static"], decision["taken"]} <= decision["microseconds"].keys()
        assert decision["operands"][0][0] == 2
    assert {"conv2d_bias_activation", "conv2d_grad_input"} <= {d["op"] for d in record["decisions"]}


@pytest.mark.filterwarnings("ignore:not chosen")
def test_a_tuned_run_says_what_was_chosen_and_where_it_is_kept(taken, tmp_path, monkeypatch):
    assert tuning.summary() == "no call is served by several kernels"
    taken(tune="fast")
    (file,) = (tmp_path / "tuning").glob("*.json")
    assert tuning.summary() == f"1 of 1 calls by another kernel than without --tune; times in {file}"
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (24, 28, 28)).astype(np.uint8), np.arange(24) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.setattr(tuning, "_file", lambda: None)
    words = ["train", "--data", str(tmp_path / "d.npz"), "--model", "slides", "--epochs", "1", "--no-pictures"]
    done = CliRunner().invoke(main, [*words, "--device", "cpu", "--tune", "fast", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert f"\ntuned           {tuning.summary()}\n" in done.stdout and len(tuning.decisions) > 1
    done = CliRunner().invoke(main, [*words, "--device", "cpu", "--out", str(tmp_path / "other")])
    assert "\ntuned" not in done.stdout


def test_a_run_with_several_processes_is_not_tuned(monkeypatch):
    monkeypatch.setattr("gpucnn.distributed.launched", lambda: 2)
    with pytest.raises(ArgumentError, match="measured by one process alone"):
        gpucnn.runs.settings.RunSettings(tune="fast").apply()
