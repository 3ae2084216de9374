"""What a shell sees of a sweep."""

import json
import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from command import gpucnn, shell
from needs import mpi_here, optuna_here, posix_here
from processes import ranks

from gpucnn.dispatch import choice, op

pytestmark = pytest.mark.usefixtures("elsewhere")

OPTIONS = ("--model", "slides", "--optimizer", "adam", "--batch-size", 12)


@pytest.fixture
def without_own_kernels():
    """The kernel `printed` is forgotten at the end of a test; those of gpucnn that were loaded meanwhile are kept."""
    yield
    for name in [name for name in op._kernels.get("matmul", {}) if name.startswith("printed")]:
        del op._kernels["matmul"][name]
    choice.changed()


def sweep(data, *more):
    return gpucnn("sweep", "--data", data, *OPTIONS, "--epochs", 1, "--jobs", 1, "--out", "s", *more)


def test_the_table_has_a_row_for_each_combination(user_npz):
    result = sweep(user_npz, "--axis", "lr=0.01,1e30", "--axis", "filters=4", "--seeds", 1)
    assert result.exit_code == 1  # one diverges
    header, best, diverged, *_ = result.stdout.splitlines()
    assert header.split() == ["learning_rate", "filters", "mean", "deviation", "range", "finished", "time"]
    assert best.split()[:2] == ["0.01", "4"] and "1 of 1" in best
    assert "0 of 1" in diverged and "the loss is nan" in result.stdout
    assert "learning_rate=0.01, filters=4, seed=0: " in result.stderr
    (folder,) = Path("s").glob("learning_rate=0.01-*")
    assert f"best run: {folder}\nnext: gpucnn report {folder}\n" in result.stdout
    listed = json.loads(gpucnn("runs", "s", "--json").stdout)["runs"]
    assert len(listed) == 2


def test_json_is_the_sweep_file_and_nothing_else(user_npz):
    result = sweep(user_npz, "--axis", "lr=0.01", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(Path("s/sweep.json").read_text())


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("lr", "must be NAME=A,B"),
        ("lr=", "must be NAME=A,B"),
        ("lr=a", "'a' is not a valid"),
        ("lrr=1", "did you mean 'lr'?"),
        ("filters=0", "0 is not in the range"),
        ("device=cpu", "the axes are model, filters"),
        ("lr=1,1", "twice"),
        ("lr=0.1..1", "is a range, of which --search 20"),
        ("lr=1..0.1", "the range 1..0.1 is empty"),
        ("optimizer=adam..sgd", "only numbers have a range"),
    ],
)
def test_a_wrong_axis_is_refused_with_what_to_write(user_npz, axis, said):
    result = sweep(user_npz, "--axis", axis)
    assert result.exit_code == 2 and said in result.stderr
    assert not os.path.exists("s")


def test_kernels_and_algorithms_are_those_of_train(user_npz):
    Path("own.py").write_text("x = 1")
    for said, more in {
        "own.py registered no kernel": ("--load", "own.py"),
        "gone.py": ("--load", "gone.py"),
        "--algorithm 'direct' must be OP=NAME": ("--algorithm", "direct"),
        "did you mean 'conv2d'": ("--algorithm", "conv=direct"),
        "'half' is not one of": ("--precision", "half"),
    }.items():
        for command in (("sweep", "--axis", "lr=0.1", "--out", "s"), ("lr-find",)):
            result = gpucnn(*command, "--data", user_npz, "--model", "slides", *more)
            assert result.exit_code in (1, 2) and said in result.stderr, (command, result.stderr)
            assert "Traceback" not in result.stderr and not os.path.exists("s")


@optuna_here
def test_a_search_trains_as_many_combinations_as_it_is_given(user_npz):
    result = sweep(user_npz, "--axis", "lr=0.001..0.1", "--search", 2, "--validation-split", 0.25)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("1 of 1") == 2
    assert "0 of 2 combinations are tried; 2 to choose in s" in result.stderr


@posix_here
def test_ctrl_c_in_a_shell_stops_every_trial_with_a_checkpoint(user_npz):
    options = [*OPTIONS, "--epochs", 100_000, "--lr", "1e-6", "--axis", "filters=4,6", "--jobs", 2, "--out", "s"]
    process = shell("sweep", "--data", user_npz, *options, start_new_session=True)
    try:
        while len(list(Path("s").glob("*/history.csv"))) < 2:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "0 of 2 trials are finished: give the same command again" in said
    records = [json.loads(path.read_text()) for path in Path("s").glob("*/run.json")]
    assert [record["status"] for record in records] == ["interrupted"] * 2


@mpi_here
@posix_here
def test_ranks_of_mpi_share_the_trials_and_give_the_same_results(user_npz, tmp_path):
    options = [*OPTIONS, "--epochs", 1, "--axis", "lr=0.01,0.003", "--seeds", 2, "--json"]
    job = ranks(2, "-m", "gpucnn", "sweep", "--data", user_npz, *options, "--out", "ranks", cwd=tmp_path)
    out, err = job.communicate(timeout=300)
    assert job.returncode == 0, err
    alone = gpucnn("sweep", "--data", user_npz, *options, "--out", "alone", "--jobs", 2)
    assert [row["scores"] for row in json.loads(out)["rows"]] == [
        row["scores"] for row in json.loads(alone.stdout)["rows"]
    ]


def test_the_best_run_is_that_of_the_best_combination(user_npz):
    result = sweep(user_npz, "--axis", "lr=1e-7,0.01", "--seeds", 2)
    trials = [
        trial
        for trial in json.loads(Path("s/sweep.json").read_text())["trials"]
        if trial["values"]["learning_rate"] > 0.001
    ]
    best = max(trials, key=lambda trial: trial["figures"]["score"])
    assert f"best run: {best['run']}\n" in result.stdout
    diverged = gpucnn("sweep", "--data", user_npz, *OPTIONS, "--epochs", 1, "--axis", "lr=1e30", "--out", "t")
    assert diverged.exit_code == 1 and "best run" not in diverged.stdout


KERNEL = """
from gpucnn import kernel
from gpucnn.ops.matmul import matmul

@kernel(matmul, "printed", "numpy")
def launch(y, a, b, **params):
    y[...] = matmul.reference(a, b, **params)
"""

MODEL = """
from gpucnn import Input, Sequential, layers

def build(input_shape, classes):
    return Sequential([Input(input_shape), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(classes, "softmax")])
"""


@pytest.mark.parametrize(
    "options",
    [
        ("--model", "slides", "--filters", 4, "--optimizer", "adam", "--seed", 3, "--flip", "--augment", "light"),
        ("--recipe", "torres", "--no-flip", "--weight-decay", "1e-4"),
        ("--model", "my models.py:build", "--optimizer", "sgd"),
        ("--model", "slides", "--load", "mine.py", "--backend", "numpy", "--algorithm", "matmul=printed"),
    ],
)
def test_the_next_command_of_lr_find_trains_what_was_tested(user_npz, options, without_own_kernels):
    Path("my models.py").write_text(MODEL)
    Path("mine.py").write_text(KERNEL)
    data = ("--data", user_npz, "--batch-size", 12, "--threads", 1)
    result = gpucnn("lr-find", *data, *options, "--from", "1e-5", "--steps", 20, "--json")
    lines = gpucnn("lr-find", *data, *options, "--from", "1e-5", "--steps", 20).stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("next ")]
    program, *words = shlex.split(line.removeprefix("next"))
    rate = f"{json.loads(result.stdout)['suggestion']:.2g}"
    assert program == "gpucnn"
    expected = ["train", *map(str, (*data, *options)), "--lr", rate]
    assert sorted(words[1:]) == sorted("0.0001" if word == "1e-4" else word for word in expected[1:])
    again = gpucnn(*words, "--epochs", 1, "--no-pictures", "--out", "again")
    assert again.exit_code == 0, again.stderr


def test_the_next_command_of_lr_find_names_the_data_set(monkeypatch):
    options = ("--model", "slides", "--optimizer", "adam", "--steps", 20, "--from", "1e-4")
    assert "gpucnn train digits --model slides --optimizer adam --lr " in gpucnn("lr-find", "digits", *options).stdout
    assert "gpucnn train digits --model slides --optimizer adam --lr " in gpucnn("lr-find", *options).stdout


def test_lr_find_draws_and_suggests_a_rate(user_npz):
    options = ("--model", "slides", "--optimizer", "adam", "--batch-size", 12, "--from", "1e-5", "--steps", 40)
    result = gpucnn("lr-find", "--data", user_npz, *options, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and 1e-5 < found["suggestion"] < 1
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    assert found["picture"] == "lr-find-squares-slides.png"
    assert {path.name for path in Path().iterdir()} <= {"lr-find-squares-slides.png", "cache"}
    refused = gpucnn("lr-find", "--data", user_npz, "--out", "rate.jpg")
    assert refused.exit_code == 2 and "ends in .png" in refused.stderr
