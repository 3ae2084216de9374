"""The script that records everything on a machine with a GPU, tried without one."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import needs
import pytest
from places import ROOT

SCRIPT, COMPETITORS = ROOT / "bench" / "gpu_all.sh", ROOT / "bench" / "competitors.py"
RECORD = {"task", "status", "why", "command", "seconds", "exit", "tail", "commit", "date", "gpu", "versions"}

pytestmark = [
    pytest.mark.skipif(shutil.which("bash") is None or shutil.which("timeout") is None, reason="no bash or timeout"),
    pytest.mark.xdist_group("gpu_all"),
]

STAND_IN = """#!/bin/sh
# Stands in for Python on a machine with a GPU: it logs tasks, and runs only what writes records.
case "$1 $2" in
  "-c "*gpu_state*) echo "NVIDIA Test 100"; exit 0 ;;
  "-c "*) exit 0 ;;
  "- "*) exec {python} "$@" ;;
esac
echo "$GPUCNN_NO_POOL $@" >>{log}
case "$*" in *"$FAILING"*) echo "it broke"; exit 3 ;; esac
case "$*" in
  *"kernels list"*|*"kernels tune"*) echo "{{}}"; exit 0 ;;
  *"data path mnist"*) [ -n "$GPUCNN_DATA" ]; exit $? ;;
esac
echo "7 passed in 1 s"
"""
SANITIZER = """#!/bin/sh
echo "compute-sanitizer $@" >>{log}
[ -z "$REFUSING" ] || {{ echo "========= Error: Device not supported"; exit 1; }}
while [ "${{1#*python}}" = "$1" ]; do shift; done
exec "$@"
"""


@pytest.fixture
def run(tmp_path):
    """Call the script; returns the finished process and the records by task."""

    def call(**environment):
        out = tmp_path / "out"
        kept = {k: v for k, v in os.environ.items() if k not in ("GPUCNN_NO_POOL", "GPUCNN_DATA", "PYTHONPATH")}
        settings = {"PYTHON": sys.executable, "OUT": str(out), **environment}
        done = subprocess.run(
            ["bash", str(SCRIPT)], env={**kept, **settings}, capture_output=True, text=True, timeout=850
        )
        records = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
        tasks = {name: record for name, record in records.items() if "task" in record}
        assert all(set(record) == RECORD and record["task"] == name for name, record in tasks.items())
        assert not tasks or {row["task"] for row in records["summary"]["tasks"]} == set(tasks)
        return done, tasks

    return call


@pytest.fixture
def machine(tmp_path):
    """The environment of a stand-in for a machine with a GPU, and the log of its programs."""
    tools, log = tmp_path / "tools", tmp_path / "log"
    tools.mkdir()
    for name, text in (("python3", STAND_IN), ("compute-sanitizer", SANITIZER)):
        (tools / name).write_text(text.format(python=sys.executable, log=log))
        (tools / name).chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    environment = {"PYTHON": str(tools / "python3"), "PATH": path, "FAILING": "no task has this", "REFUSING": ""}
    return environment, lambda: log.read_text().splitlines() if log.exists() else []


@needs.emulator_here
def test_a_dry_run_records_each_task_and_is_not_repeated(run):
    done, tasks = run(DRY_RUN="1", STEPS="1 6")
    assert done.returncode == 0, done.stderr
    assert list(sorted(tasks)) == ["1-check-matmul-naive", "1-doctor", "1-tests", "6-memcheck-matmul-naive"]
    assert {record["status"] for record in tasks.values()} == {"ok"}
    assert tasks["1-check-matmul-naive"]["command"][-3:] == ["matmul/naive", "--device", "emulator"]
    assert tasks["6-memcheck-matmul-naive"]["command"][-4:] == ["--device", "emulator", "--mode", "check"]
    assert "0 wrong" in tasks["6-memcheck-matmul-naive"]["tail"]
    again, same = run(DRY_RUN="1", STEPS="1 6")
    assert again.returncode == 0
    assert same == tasks
    assert "gpu_all: 1-tests" not in again.stderr


@needs.takes_long
@needs.emulator_here
def test_the_whole_dry_run(run):
    done, tasks = run(DRY_RUN="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name[0] for name in tasks} == set("134567")
    assert "3-train-verdict" in tasks


def test_on_a_gpu_the_most_valuable_steps_come_first(run, machine):
    environment, written = machine
    done, tasks = run(**environment, PATTERN="matmul/ pool2d/")
    assert done.returncode == 0, done.stderr
    lines = written()
    places = [
        next(i for i, line in enumerate(lines) if part in line)
        for part in (
            "doctor --self-check",
            "pytest",
            "gpucnn check",
            "--tool memcheck",
            "--tool racecheck",
            "train digits",
            "beside_prediction.py slides",
            "beside_prediction.py mlearning",
            "step_kernels.py slides",
            "bench matmul/",
            "check matmul/ --device gpu --largest 50",
            "--tool initcheck",
            "--tool synccheck",
            "competitors.py",
        )
    ]
    assert places == sorted(places)
    assert [line for line in lines if line.startswith("1 -m gpucnn check")] == [
        f"1 -m gpucnn check {family} --device gpu --largest 50" for _ in range(4) for family in ("matmul/", "pool2d/")
    ], "under the sanitizer each array is a separate allocation"
    assert sum(line.startswith("1 -m gpucnn train --data") for line in lines) == 2
    assert sum("--backend numba --seed 0" in line for line in lines) == 2
    assert any("step_kernels.py slides" in line and "--branches" in line for line in lines)
    assert not any("--device cpu" in line for line in lines), "the embedded digits have no text to be compared with"
    assert any("bench matmul/ --backend cuda --device gpu --vs cublas,torch --json" in line for line in lines)
    assert {record["status"] for record in tasks.values()} == {"ok"}


def test_with_mnist_the_accuracy_is_compared_with_the_cpu(run, machine, tmp_path):
    environment, written = machine
    done, _ = run(**environment, STEPS="3", GPUCNN_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sum("train mnist" in line and "--device cpu --seed" in line for line in written()) == 3


@pytest.mark.parametrize(("answer", "several"), [("Default, 81559", True), ("Default, 6144", False),
    ("Exclusive_Process, 81559", False), ("", False)])  # fmt: skip
def test_several_processes_test_where_each_may_have_a_context(run, machine, tmp_path, answer, several):
    environment, written = machine
    tool = tmp_path / "tools" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{answer}'\n")
    tool.chmod(0o755)
    run(**environment, STEPS="1", PATTERN="matmul/")
    assert ("-n 4" in next(line for line in written() if "-m pytest" in line)) == several


def test_a_failing_task_is_recorded_and_listed_and_repeated_on_request(run, machine):
    environment, written = machine
    settings = {**environment, "PATTERN": "matmul/ pool2d/", "STEPS": "1"}
    done, tasks = run(**{**settings, "FAILING": "check matmul/"})
    assert done.returncode == 1
    assert "FAILED 1-check-matmul (ended with status 3)" in done.stdout
    assert tasks["1-check-matmul"]["status"] == "failed"
    assert tasks["1-check-matmul"]["tail"] == "it broke\n"
    assert tasks["1-check-pool2d"]["status"] == "ok", "the others continue"
    before = len(written())
    assert run(**settings)[0].returncode == 1, "a record of a failure stays"
    assert not any("check matmul/" in line for line in written()[before:])
    done, tasks = run(**settings, AGAIN="1")
    assert done.returncode == 0
    assert tasks["1-check-matmul"]["status"] == "ok"


def test_a_sanitizer_that_refuses_is_recorded_and_not_a_failure(run, machine):
    environment, _ = machine
    done, tasks = run(**{**environment, "REFUSING": "1", "STEPS": "2 6"})
    assert done.returncode == 0
    for name in ("2-training", "6-racecheck"):
        assert tasks[name]["status"] == "absent"
        assert "Device not supported" in tasks[name]["why"]


def test_tests_that_were_all_skipped_are_not_a_success(run, machine):
    environment, _ = machine
    python = Path(environment["PYTHON"])
    python.write_text(python.read_text().replace("7 passed", "7 skipped"))
    done, tasks = run(**environment, STEPS="1", PATTERN="matmul/")
    assert done.returncode == 1
    assert tasks["1-tests-cuda"]["status"] == "failed"


@needs.takes_long
def test_the_deadline_stops_before_a_task_and_the_next_call_resumes(run, machine):
    environment, written = machine
    done, tasks = run(**environment, STEPS="1", PATTERN="matmul/", DEADLINE_S="5")
    assert (done.returncode, tasks) == (75, {})
    python = Path(environment["PYTHON"])
    text = python.read_text()
    slow = 'case "$*" in *"not _cuda and"*) sleep 60 ;; *"-k _cuda"*) sleep 6 ;; esac\necho "7 passed'
    python.write_text(text.replace('echo "7 passed', slow))
    done, tasks = run(**environment, STEPS="1", PATTERN="matmul/", DEADLINE_S="18")
    assert done.returncode == 75
    assert "1-tests-cuda" in tasks
    assert "1-tests-others" not in tasks, "a task ended by the deadline has no record"
    python.write_text(text)
    assert run(**environment, STEPS="1", PATTERN="matmul/")[0].returncode == 0
    assert sum("-k _cuda" in line for line in written()) == 1


def test_ops_without_large_cases_and_endless_tasks_are_reported(run, machine):
    environment, _ = machine
    python = Path(environment["PYTHON"])
    answer = """case "$*" in
  *"bench matmul/"*cuda*) echo "gpucnn: error: none of these 3 kernels takes any large case: give --case"; exit 2 ;;
  *"bench matmul/"*numba*) sleep 60 ;;
esac
echo "7 passed"""
    python.write_text(python.read_text().replace('echo "7 passed', answer))
    done, tasks = run(**environment, STEPS="5", PATTERN="matmul/", TASK_S="2")
    assert done.returncode == 1
    assert tasks["5-bench-matmul-cuda"]["status"] == "absent"
    assert "large case" in tasks["5-bench-matmul-cuda"]["why"]
    assert tasks["5-bench-matmul-numba"]["why"] == "took more than 2 s"
    assert tasks["5-kernels"]["status"] == "ok"


def test_without_a_gpu_it_says_what_can_be_done(run):
    done, tasks = run(STEPS="1")
    if done.returncode == 0:
        pytest.skip("there is a GPU here")
    assert (done.returncode, tasks) == (2, {})
    assert "DRY_RUN=1" in done.stderr


# -- the competitors ---------------------------------------------------------------------------------------------------


@needs.emulator_here
def test_competitors_agree_on_the_first_losses_and_leave_a_record_each(tmp_path):
    command = [sys.executable, str(COMPETITORS), "--out", str(tmp_path), "--model", "slides", "--dry-run"]
    chosen = ["--contender", "gpucnn-cuda", "--contender", "torch-eager", "--contender", "torch-graph"]
    done = subprocess.run([*command, *chosen], capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr
    records = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    reference = records.pop("slides-reference-float32")["losses"]
    emulated = records["slides-gpucnn-cuda-float32"]
    assert emulated["status"] == "checked"
    assert emulated["milliseconds"] is None, "the emulator is not timed"
    assert emulated["losses"] == pytest.approx(reference[:1], rel=1e-4)
    assert records["slides-torch-graph-float32"]["status"] == "absent"
    assert records["slides-torch-eager-tf32"]["why"] == "TF32 needs a GPU"
    for record in records.values():
        assert record["dry_run"]
        assert {"model", "precision", "batch_size", "optimizer", "input", "versions", "commit", "date"} <= set(record)
    again = subprocess.run([*command, *chosen], capture_output=True, text=True, timeout=850)
    assert again.returncode == 0
    assert again.stderr == "", "nothing is done twice"
    assert "gpucnn-cuda" in again.stdout


@needs.emulator_here
@needs.takes_long
def test_a_contender_with_other_losses_is_not_timed(tmp_path):
    path = tmp_path / "slides-reference-float32.json"
    path.write_text(json.dumps({"dry_run": True, "status": "checked", "losses": [9.0, 9.0]}))
    command = [sys.executable, str(COMPETITORS), "--out", str(tmp_path), "--model", "slides", "--dry-run"]
    done = subprocess.run([*command, "--contender", "gpucnn-cuda"], capture_output=True, text=True, timeout=850)
    assert done.returncode == 1
    record = json.loads((tmp_path / "slides-gpucnn-njit-float32.json").read_text())
    assert record["status"] == "failed"
    assert "the losses of the first steps differ by" in record["why"]
    assert "milliseconds" not in record


def test_all_files_with_tests_that_need_a_gpu_are_named():
    script = (ROOT / "bench" / "gpu_all.sh").read_text()
    marked = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"^@pytest\.mark\.gpu$", path.read_text(), re.M)
    ]
    assert len(marked) == 2
    assert all(str(path.relative_to(ROOT)) in script for path in marked)


def test_times_of_kernels_are_those_of_usual_steps():
    """A step is two kernels, of 2 and 3 µs with gaps of 1 µs; a copy makes one step longer."""
    kernels_of = runpy.run_path(str(ROOT / "bench" / "step_kernels.py"))["kernels_of"]
    events, now = [], 0.0
    for step in range(6):
        for name, lasts in (("gather_floats", 2.0), ("sgd", 3.0), *((("copy", 9.0),) if step == 2 else ())):
            events.append({"name": name, "ts": now, "dur": lasts, "args": {"grid": [4, 1, 1]}})
            now += lasts + 1.0
    found = kernels_of(events)
    assert (found["us_per_step"], found["low"], found["high"]) == (7.0, 7.0, 7.0)
    assert [(k["kernel"], k["us"], k["gap_us"], k["grid"]) for k in found["kernels"]] == [
        ("gather_floats", 2.0, 1.0, [4, 1, 1]),
        ("sgd", 3.0, 1.0, [4, 1, 1]),
    ]


def test_kernels_that_overlap_count_once_in_a_step_and_may_start_in_any_order():
    """A step is 2 µs, a gap of 1, then two kernels that start 0.5 µs apart, one or the other first, and a gap of 1."""
    kernels_of = runpy.run_path(str(ROOT / "bench" / "step_kernels.py"))["kernels_of"]
    events = []
    for step in range(6):
        late = 0.5 * (step % 2)
        for name, starts, ends in (("gather_floats", 0, 2), ("weight", 3 + late, 9), ("input", 3.5 - late, 7.5 - late)):
            events.append({"name": name, "ts": 10.0 * step + starts, "dur": float(ends - starts)})
    events.sort(key=lambda event: event["ts"])
    found = kernels_of(events)
    assert found["us_per_step"] == 10.0
    assert found["overlap_us"] == 4.0  # in three of five steps; 3.5 in the others
    assert sum(k["gap_us"] for k in found["kernels"]) == 2.0
    assert {k["kernel"]: (k["at_us"], k["us"]) for k in found["kernels"]} == {
        "gather_floats": (0.0, 2.0),
        "weight": (3.0, 6.0),
        "input": (3.5, 4.0),
    }
