"""A sweep: trials in run folders, side by side, resumable, with a row for each that fails."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from needs import posix_here
from processes import program

from gpucnn.devices import threads
from gpucnn.dispatch import choice, op
from gpucnn.errors import ArgumentError, FileError
from gpucnn.runs import commands, sweep, trials
from gpucnn.runs.run import Run
from gpucnn.runs.settings import RunSettings


def write_squares(path):
    """48 + 24 images with and without a square."""
    rng = np.random.default_rng(0)
    arrays = {}
    for half, count in (("train", 48), ("test", 24)):
        y = np.arange(count) % 2
        x = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
        x[y == 1, 8:20, 8:20] += 150
        arrays |= {f"x_{half}": x, f"y_{half}": y}
    np.savez(path, **arrays, classes=np.array(["empty", "full"]))


@pytest.fixture(autouse=True)
def _data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_squares("squares.npz")


BASE = RunSettings(
    data="squares.npz", model="slides", optimizer="adam", batch_size=12, epochs=1, backend="numpy", device="cpu"
)


def changed(**settings):
    return RunSettings(**vars(BASE) | settings)


def sums(result):
    return {trial.folder.name: Run.open(trial.folder).record["weights_sha256"] for trial in result.trials}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two rates and two seeds, with validation images."""
    folder = tmp_path_factory.mktemp("swept")
    write_squares(folder / "squares.npz")
    settings = changed(data=str(folder / "squares.npz"), validation_split=0.25)
    return sweep.run(settings, {"learning_rate": [0.001, 0.01]}, seeds=2, folder=folder / "s", jobs=2)


def test_a_trial_is_the_run_that_train_makes_with_these_settings(swept):
    assert [(trial.values, trial.seed) for trial in swept.trials] == [
        ({"learning_rate": rate}, seed) for rate in (0.001, 0.01) for seed in (0, 1)
    ]
    settings = changed(validation_split=0.25, learning_rate=0.01, seed=1)
    single = commands.train(settings, "one", pictures=False)
    trial = swept.trials[-1]
    assert Run.open(trial.folder).record["weights_sha256"] == single.record["weights_sha256"]
    assert trial.figures["test_accuracy"] == single.record["test_accuracy"]


def test_rows_have_mean_and_spread_over_the_seeds_on_the_validation_images(swept):
    assert swept.ranked_by == "validation accuracy"
    for row in swept.rows:
        folders = [trial.folder for trial in swept.trials if trial.values == row.values]
        scores = [Run.open(folder).read_history()["val_accuracy"][-1] for folder in folders]
        assert row.scores == scores and (row.trials, row.failed) == (2, 0)
        assert row.mean == pytest.approx(np.mean(scores))
        assert row.deviation == pytest.approx(np.std(scores, ddof=1))
    assert swept.rows[0].mean >= swept.rows[1].mean


def test_the_picture_and_the_table_are_written(swept):
    assert (swept.folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((swept.folder / "sweep.json").read_text()) == json.loads(json.dumps(swept.describe()))


def test_a_second_sweep_trains_what_is_missing_alone():
    first = sweep.run(BASE, {"learning_rate": [0.01]}, folder="s", jobs=1)
    before = os.stat(first.trials[0].folder / "model.safetensors").st_mtime_ns
    lines = []
    second = sweep.run(BASE, {"learning_rate": [0.01, 0.02]}, folder="s", jobs=1, say=lines.append)
    assert os.stat(first.trials[0].folder / "model.safetensors").st_mtime_ns == before
    assert second.ranked_by == "test accuracy" and len(second.trials) == 2
    assert sums(first).items() <= sums(second).items()
    assert "1 of 2 trials are finished" in lines[0]


def test_other_settings_or_other_images_are_other_trials():
    first = sweep.run(BASE, {"learning_rate": [0.01]}, folder="s", jobs=1)
    longer = sweep.run(RunSettings(**(vars(BASE) | {"batch_size": 24})), {"learning_rate": [0.01]}, folder="s", jobs=1)
    assert first.trials[0].folder != longer.trials[0].folder
    with np.load("squares.npz") as file:
        arrays = dict(file)
    arrays["x_test"][0, 0, 0] ^= 1
    np.savez("squares.npz", **arrays)
    changed = sweep.run(BASE, {"learning_rate": [0.01]}, folder="s", jobs=1)
    assert changed.trials[0].folder != first.trials[0].folder


OWN_KERNEL = """
import os
from gpucnn import kernel
from gpucnn.ops.matmul import matmul

@kernel(matmul, "own", "numpy")
def launch(y, a, b, **params):
    open(f"used-{os.getpid()}", "a").close()
    y[...] = matmul.reference(a, b, **params)
"""


@pytest.fixture
def _without_own_kernels():
    before = {name: dict(kernels) for name, kernels in op._kernels.items()}
    yield
    op._kernels.clear()
    op._kernels.update(before)
    choice.changed()


@pytest.mark.usefixtures("_without_own_kernels")
def test_every_trial_trains_with_kernels_and_model_of_the_user(tmp_path):
    (tmp_path / "own.py").write_text(OWN_KERNEL)
    (tmp_path / "mine.py").write_text(
        "from gpucnn.runs import zoo\ndef build(input_shape, classes):\n"
        "    return zoo.find('slides').build(input_shape, classes)\n"
    )
    settings = changed(model="mine.py:build", algorithms={"matmul": "own"})
    result = sweep.run(settings, {"learning_rate": [0.01, 0.02]}, folder="s", jobs=2, load=["own.py"])
    assert [(trial.status, trial.error) for trial in result.trials] == [("finished", None)] * 2
    assert len(list(tmp_path.glob("used-*"))) == 2, "each process has used the kernel"
    for trial in result.trials:
        assert Run.open(trial.folder).record["settings"]["load"][0]["name"] == "own.py"
    (tmp_path / "own.py").write_text(OWN_KERNEL + "# changed\n")
    again = sweep.run(settings, {"learning_rate": [0.01, 0.02]}, folder="s", jobs=2, load=["own.py"])
    assert not {t.folder for t in again.trials} & {t.folder for t in result.trials}, "another file is another trial"


@pytest.mark.usefixtures("_without_own_kernels")
def test_a_trial_with_own_kernels_goes_on_from_its_checkpoint(tmp_path):
    (tmp_path / "own.py").write_text(OWN_KERNEL)
    settings, axes = changed(algorithms={"matmul": "own"}, epochs=2), {"learning_rate": [0.01]}
    (trial,) = sweep.run(settings, axes, folder="s", jobs=1, load=["own.py"]).trials
    record = json.loads((trial.folder / "run.json").read_text())
    record["status"], record["settings"]["epochs"] = "interrupted", 3
    (trial.folder / "run.json").write_text(json.dumps(record))
    (again,) = sweep.run(settings, axes, folder="s", jobs=1, load=["own.py"]).trials
    assert (again.status, again.error) == ("finished", None)
    assert Run.open(again.folder).record["epochs_trained"] == 3


def test_one_path_in_the_place_of_a_list_of_kernel_files_is_refused():
    with pytest.raises(ArgumentError, match=r"load='own.py' is one path: give a list of files, \['own.py'\]"):
        sweep.run(BASE, {"learning_rate": [0.01]}, folder="s", jobs=1, load="own.py")


def test_a_trial_that_fails_is_a_row_with_its_error():
    result = sweep.run(BASE, {"learning_rate": [1e30, 0.01]}, folder="s", jobs=2)
    diverged, fine = result.trials
    assert diverged.status == "failed" and "the loss is nan" in diverged.error
    assert fine.status == "finished"
    assert [row.failed for row in result.rows] == [0, 1]
    assert np.isnan(result.rows[1].mean)


@posix_here
def test_a_process_that_is_killed_is_a_row_with_its_error(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os, signal\nfrom gpucnn.runs import zoo\n"
        "def build(input_shape, classes):\n"
        "    if os.environ.get('DIES') and __import__('multiprocessing').parent_process():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return zoo.find('slides').build(input_shape, classes)\n"
    )
    settings = changed(model="mine.py:build")
    os.environ["DIES"] = "1"
    try:
        result = sweep.run(settings, {"learning_rate": [0.01]}, folder="s", jobs=1)
    finally:
        del os.environ["DIES"]
    assert result.trials[0].status == "failed" and "SIGKILL" in result.trials[0].error
    assert sweep.run(settings, {"learning_rate": [0.01]}, folder="s", jobs=1).trials[0].status == "finished"


@posix_here
def test_ctrl_c_stops_all_trials_and_the_next_sweep_resumes_them(tmp_path):
    settings = changed(epochs=3000, learning_rate=1e-5, backend="numpy")
    code = f"""
        import os, pathlib, signal, threading, time
        from gpucnn.errors import Interrupted
        from gpucnn.runs import sweep
        from gpucnn.runs.settings import RunSettings

        def interrupt():
            while len(list(pathlib.Path("s").glob("*/history.csv"))) < 2:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        if __name__ == "__main__":
            threading.Thread(target=interrupt, daemon=True).start()
            try:
                sweep.run({settings!r}, {{"filters": [4, 6]}}, folder="s", jobs=2)
            except Interrupted as error:
                print(error, error.exit_status)
    """
    (tmp_path / "main.py").write_text(__import__("textwrap").dedent(code))
    done = program("import runpy; runpy.run_path('main.py', run_name='__main__')", cwd=tmp_path)
    assert "0 of 2 trials are finished" in done.stdout and "130" in done.stdout, done.stderr
    folders = sorted(tmp_path.glob("s/*/run.json"))
    assert [json.loads(path.read_text())["status"] for path in folders] == ["interrupted"] * 2
    epochs = [len(Run.open(path.parent).read_history()["loss"]) for path in folders]
    for path in folders:  # what is left is made short
        record = json.loads(path.read_text())
        record["settings"]["epochs"] = max(epochs) + 1
        path.write_text(json.dumps(record))
    for path in folders:
        run = commands.resume(path.parent, pictures=False)
        assert run.record["epochs_trained"] == max(epochs) + 1


@pytest.mark.parametrize(("jobs", "expected"), [(None, threads.available()), (3, 3)])
def test_trials_run_side_by_side_and_divide_the_cores(monkeypatch, jobs, expected):
    asked = []

    def in_processes(tasks, count, jobs):
        assert count == 2
        asked.append(jobs)
        yield from (trials.Outcome(task.folder, "failed", "not trained") for task in tasks)

    monkeypatch.setattr(trials, "_in_processes", in_processes)
    sweep.run(BASE, {"learning_rate": [0.1, 0.2]}, folder="s", jobs=jobs)
    assert asked == [expected]


def test_settings_say_how_many_threads_a_trial_has_before_its_share(monkeypatch):
    used = []
    monkeypatch.setattr(commands, "train", lambda settings, *_, **__: used.append(settings.threads))
    for own, share in ((None, 2), (3, 2)):
        trials.train(trials.Task(changed(threads=own), Path("nowhere"), share))
    assert used == [2, 3]


@pytest.mark.parametrize(
    ("axes", "more", "said"),
    [
        ({}, {}, "axes"),
        ({"learning_rate": []}, {}, "learning_rate"),
        ({"learning_rate": [0.1, 0.1]}, {}, "twice"),
        ({"learning_rate": [-1.0]}, {}, "learning_rate is -1.0"),
        ({"learning_rates": [1]}, {}, "did you mean"),
        ({"optimizer": ["adam", "adamm"]}, {}, "adamm"),
        ({"model": ["slides", "sides"]}, {}, "sides"),
        ({"seed": [1, 2]}, {}, "seeds"),
        ({"learning_rate": [0.1]}, {"learning_rate": 0.2}, "learning_rate"),
        ({"epochs": [1]}, {"data": "gone.npz"}, "gone.npz"),
        ({"best": [True]}, {}, "validation"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_any_work(axes, more, said):
    with pytest.raises((ArgumentError, FileError, ValueError, OSError), match=said):
        sweep.run(
            RunSettings(**vars(BASE) | dict.fromkeys(("epochs", "optimizer", "model")) | more), axes, folder="s", jobs=1
        )
    assert not os.path.exists("s")
