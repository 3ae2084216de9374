"""Small trainings in several processes, and how to look at them."""

import os
import time

LIMIT = 120
"""Seconds in which a job of these tests has ended, on a busy machine too."""

TRAIN = ("-m", "gpucnn", "train", "--model", "mine.py:build", "--epochs", 2, "--batch-size", 100, "--no-pictures")
TRAIN += ("--threads", 1, "--backend", "numpy", "--augment", "light", "--validation-split", 0.1)

MINE = """
from gpucnn import Sequential, layers

def build(input_shape, classes):
    return Sequential([
        layers.Conv2D(4, 3, strides=3, activation="relu", input_shape=input_shape), layers.BatchNormalization(),
        layers.Flatten(), layers.Dropout(0.3), layers.Dense(classes, activation="softmax"),
    ])
"""


def until(true, seconds=LIMIT):
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def pids(mpiexec):
    """The processes of the ranks of the job whose mpiexec has this process number, by rank."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == mpiexec and b"OMPI_COMM_WORLD_RANK" in environment:
            found[int(environment[b"OMPI_COMM_WORLD_RANK"])] = int(pid)
    return found
