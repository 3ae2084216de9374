"""Two and more processes of a real MPI."""

import json
import os
import re
import signal
import time

import pytest
from jobs import LIMIT, MINE, TRAIN, pids, until
from needs import mpi_here, posix_here
from processes import program, ranks

from gpucnn.runs.run import Run

pytestmark = [mpi_here, posix_here]

GREEDY = """
import numpy as np
from gpucnn import Sequential, callbacks, distributed, layers

group = distributed.start(time_limit=20)
model = Sequential([layers.Dense(2, activation="softmax", input_shape=(3,))])
model.compile("sgd", "sparse_categorical_crossentropy")

def take(epoch, logs):
    if group.rank == 1 and epoch == 2:
        np.ones(1 << 46, np.uint8)

x, y = np.ones((64, 3), np.float32), np.arange(64) % 2
model.fit(x, y, epochs=100000, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_end=take)])
"""


@pytest.fixture
def job(tmp_path, at_end):
    """A function that starts a training with so many processes in a folder that holds mine.py."""
    (tmp_path / "mine.py").write_text(MINE)

    def start(count, *more):
        process = ranks(count, *TRAIN[: 3 if "--resume" in more else None], *more, cwd=tmp_path)
        at_end.append(process)
        return process

    return start


def finished(process):
    """What the job printed to its two streams; it must end well."""
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    return out, err


def history(folder):
    return (folder / "history.csv").read_bytes()


def weights(folder):
    return Run.open(folder).record["weights_sha256"]


def test_with_as_many_parts_one_two_three_and_four_processes_give_the_same_bits(job, tmp_path):
    for count in (1, 2, 3, 4):
        finished(job(count, "--parts", 4, "--out", f"run{count}"))
    assert len({weights(tmp_path / f"run{count}") for count in (1, 2, 3, 4)}) == 1
    assert len({history(tmp_path / f"run{count}") for count in (1, 2, 3, 4)}) == 1


def test_rank_0_alone_prints_and_writes(job, tmp_path):
    out, err = finished(job(2, "--out", "run", "--json"))
    assert json.loads(out)["epochs_trained"] == 2
    assert err.count("no data set given") == 1 and err.count("Epoch 2/2") == 1
    assert Run.open(tmp_path / "run").settings["parts"] == 2
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {
        *("run.json", "history.csv", "checkpoints", "model.safetensors", ".lock")
    }


def test_the_batch_size_per_rank_is_that_of_one_process(job, tmp_path):
    command = [*TRAIN]
    del command[command.index("--batch-size") : command.index("--batch-size") + 2]
    process = ranks(2, *command, "--batch-size-per-rank", 50, "--epochs", 1, "--out", "run", cwd=tmp_path)
    finished(process)
    assert Run.open(tmp_path / "run").settings["batch_size"] == 100


def test_a_killed_process_ends_the_job_and_resuming_with_another_number_gives_the_same_bits(job, tmp_path):
    finished(job(2, "--parts", 2, "--epochs", 4, "--out", "whole"))
    for victim in (0, 1):
        folder = tmp_path / f"run{victim}"
        process = job(2, "--parts", 2, "--epochs", 4, "--save-every", 3, "--out", folder.name)
        until(lambda folder=folder: list(folder.glob("checkpoints/*")))
        os.kill(pids(process.pid)[victim], signal.SIGKILL)
        killed = time.monotonic()
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - killed < 30 and process.returncode != 0
        assert re.search(rf"rank {victim}\b.*signal 9|RANK {victim} .*KILLED", err, re.DOTALL), err
        finished(job(1, "--resume", folder.name, "--model", "mine.py:build", "--no-pictures"))
        assert weights(folder) == weights(tmp_path / "whole")
        assert history(folder) == history(tmp_path / "whole")


def test_a_process_that_hangs_ends_the_job_with_its_name(job, tmp_path):
    process = job(2, "--rank-timeout", 3, "--epochs", 1000, "--out", "run")
    until(lambda: (tmp_path / "run" / "history.csv").exists())
    hung = pids(process.pid)[1]
    os.kill(hung, signal.SIGSTOP)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert re.search(rf"no answer from rank 1 \(pid {hung} on .+\) for 3 s", err), err


def test_a_process_out_of_memory_ends_the_job_with_its_name_and_the_cause(tmp_path, at_end):
    (tmp_path / "greedy.py").write_text(GREEDY)
    process = ranks(2, tmp_path / "greedy.py")
    at_end.append(process)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert re.search(r"^rank 1:\n(.*\n)*.*Unable to allocate 64.0 TiB", err, re.MULTILINE), err


def test_an_error_that_all_processes_have_is_printed_once(job):
    _, err = (process := job(2, "--parts", 1)).communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert err.count("gpucnn: error: 2 processes cannot share batches of 1 parts: start at most 1") == 1


def test_processes_that_differ_are_refused_in_one_sentence(tmp_path, at_end):
    code = """
    import sys
    import numpy as np
    import gpucnn
    from gpucnn import Sequential, distributed, layers, random
    from gpucnn.models import parts
    group = distributed.start(time_limit=60)
    x, y = np.ones((8, 3), np.float32), np.arange(8) % 2
    if {difference!r} == "data":
        x += group.rank
    if {difference!r} == "seed":
        random.set_random_seed(group.rank)
    if {difference!r} == "backend" and group.rank:
        gpucnn.use("numpy")
    if {difference!r} == "version" and group.rank:
        parts.__version__ = "0.0.1"
    model = Sequential([layers.Dense(2, activation="softmax", input_shape=(3,))])
    model.compile("sgd" if group.rank or {difference!r} != "optimizer" else "adam", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    """
    for difference, what in (
        *(("data", "training data"), ("seed", "settings"), ("optimizer", "settings")),
        *(("backend", "kernels"), ("version", "gpucnn")),
    ):
        script = tmp_path / f"{difference}.py"
        script.write_text("\n".join(line[4:] for line in code.format(difference=difference).splitlines()))
        process = ranks(2, script)
        at_end.append(process)
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode != 0
        message = (
            rf"RankError: rank 1 \(pid \d+ on .+\) has {what} [0-9a-f.]+, and rank 0 .+: give all processes the same"
        )
        assert len(re.findall(message, err)) == 1, err


def test_importing_gpucnn_under_mpiexec_does_not_load_mpi4py():
    done = program("import sys, gpucnn; print('mpi4py' in sys.modules)", OMPI_COMM_WORLD_SIZE="2")
    assert done.stdout.strip() == "False"
