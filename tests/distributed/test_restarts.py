"""Trainings that are started again after a process was killed or hung."""

import os
import random
import re
import signal
import time
from itertools import count
from pathlib import Path

import pytest
from command import shell
from jobs import LIMIT, MINE, TRAIN, pids, until
from needs import mpi_here, posix_here, takes_long
from processes import settings_of_ranks

from gpucnn.cli.ranks import _without
from gpucnn.runs.run import Run

pytestmark = [mpi_here, posix_here]

SMALL = (*TRAIN[3:], "--parts", 2, "--epochs", 4, "--save-every", 3)

KILLS = 50
LONGEST = 30.0
"""Seconds from the death of a process to the end of its job."""


@pytest.fixture
def supervised(tmp_path, at_end):
    """A function that starts a training of two processes, which is started again."""
    (tmp_path / "mine.py").write_text(MINE)

    def start(*more, ranks=2, restarts=1):
        options = ["--ranks", ranks, "--restarts", restarts, *more]
        process = shell("train", *SMALL, *options, cwd=tmp_path, env=settings_of_ranks())
        at_end.append(process)
        return process

    return start


def ended(process):
    """What a training printed on standard error; it must end well."""
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    return err


def jobs(process):
    """The process numbers of mpiexec under a supervisor: one, or none."""
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def of_job(process):
    """The processes of the ranks of the job under a supervisor, by rank."""
    return {rank: pid for job in jobs(process) for rank, pid in pids(int(job)).items()}


def results(folder):
    return Run.open(folder).record["weights_sha256"], (folder / "history.csv").read_bytes()


def test_a_killed_process_is_followed_by_a_restart_that_ends_as_an_unbroken_run(supervised, tmp_path):
    assert "restart" not in ended(supervised("--out", "whole", restarts=0))
    process = supervised("--out", "run")
    until(lambda: list((tmp_path / "run").glob("checkpoints/*")))
    os.kill(of_job(process)[1], signal.SIGKILL)
    err = ended(process)
    assert re.search(r"ended with status 137: restart 1 of 1, from the checkpoint epoch-\d+-batch-\d+", err), err
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_a_process_that_hangs_is_followed_by_a_restart(supervised, tmp_path):
    process = supervised("--out", "run", "--rank-timeout", 4)
    until(lambda: list((tmp_path / "run").glob("checkpoints/*")))
    os.kill(of_job(process)[1], signal.SIGSTOP)
    err = ended(process)
    assert "no answer from rank 1" in err and "ended with status 75: restart 1 of 1" in err
    assert Run.open(tmp_path / "run").record["status"] == "finished"


def test_wrong_arguments_are_not_tried_again(supervised):
    process = supervised("--out", "run", "--seed", -1, restarts=3)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2 and "restart" not in err.replace("--restarts", "")


def test_restarts_need_the_folder(tmp_path):
    _, err = shell("train", "--restarts", 1, cwd=tmp_path).communicate(timeout=LIMIT)
    assert "--restarts needs to know the folder of the run: give it with --out FOLDER" in err


def test_one_of_several_processes_does_not_supervise(tmp_path):
    environment = {**os.environ, "OMPI_COMM_WORLD_SIZE": "2"}
    _, err = shell("train", "--ranks", 2, cwd=tmp_path, env=environment).communicate(timeout=LIMIT)
    assert "mpiexec has started this process: leave out --ranks and --restarts" in err


def test_the_options_of_the_supervisor_are_taken_out_in_both_spellings():
    written = ["mnist", "--ranks", "2", "--out", "run", "--restarts=3", "--ranks=4"]
    assert _without(written, "--ranks", "--restarts") == ["mnist", "--out", "run"]


@takes_long
def test_kills_at_random_moments_never_change_the_result(supervised, tmp_path):
    """A training that is killed goes on, and may be killed again; one that has ended is compared with the unbroken
    one, and followed by another, until there were enough kills. Moments are counted from the start of the ranks."""
    whole = supervised("--out", "whole", restarts=0)
    until(lambda: of_job(whole))
    began = time.monotonic()
    ended(whole)
    expected, duration = results(tmp_path / "whole"), time.monotonic() - began
    seconds, restarted, draw, numbers = [], 0, random.Random(14), count()
    while len(seconds) < KILLS:
        folder = tmp_path / f"run{next(numbers)}"
        process = supervised("--out", folder.name, restarts=KILLS)
        while process.poll() is None and len(seconds) < KILLS:
            until(lambda process=process: process.poll() is not None or len(of_job(process)) == 2)
            moment, rank = time.monotonic() + draw.uniform(0.0, duration), draw.randrange(2)
            while time.monotonic() < moment and process.poll() is None:
                time.sleep(0.01)
            victim = of_job(process).get(rank) if process.poll() is None else None
            if victim is not None:
                job, killed = jobs(process), time.monotonic()
                os.kill(victim, signal.SIGKILL)
                until(lambda process=process, job=job: process.poll() is not None or jobs(process) != job)
                seconds.append(time.monotonic() - killed)
                print(f"kill {len(seconds)}, of rank {rank}: the job ended in {seconds[-1]:.1f} s", flush=True)
        restarted += ended(process).count(": restart ")
        assert results(folder) == expected, folder
    print(f"{KILLS} kills in {next(numbers)} trainings, {restarted} restarts; a job ended in {max(seconds):.1f} s")
    assert max(seconds) < LONGEST
