"""Processes that each train on an emulated GPU: with recorded steps and without, with NCCL and without, and compared
with processes on the CPU.

Starting processes and compiling kernels take most of the time, so each job trains several times.
"""

import json
import os
import re
import signal
import sys

import numpy as np
import pytest
from jobs import LIMIT, pids
from needs import emulated_gpu_here, mpi_here, posix_here
from processes import ranks

from gpucnn import distributed
from gpucnn.devices import choose
from gpucnn.devices.emulator.driver import build
from gpucnn.errors import ArgumentError, KernelError

pytestmark = [emulated_gpu_here, mpi_here, posix_here]

SAMPLES, BATCH, EPOCHS = 33, 16, 2

PROGRAM = """
import json, os, sys
import numpy as np
import gpucnn
from gpucnn import Sequential, distributed, layers, random
from gpucnn.callbacks import LambdaCallback
from gpucnn.devices import nccl
from gpucnn.devices.emulator import driver
from gpucnn.errors import TrainingError
from gpucnn.initializers import Initializer
from gpucnn.models import resident_parts
from gpucnn.optimizers import SGD

device, printed = sys.argv[1], {}
group = distributed.start(parts=2, time_limit=60)
gpucnn.use("cuda" if device == "gpu" else "njit", device=distributed.device_of_rank(device))
rng = np.random.default_rng(5)
X, Y = rng.normal(size=(%(SAMPLES)d, 6, 6, 4)).astype(np.float32), rng.integers(0, 3, %(SAMPLES)d)

class FewBits(Initializer):
    def __call__(self, shape, dtype=None):
        return (np.arange(np.prod(shape)).reshape(shape) %% 3 - 1).astype(np.float32)

def squares(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).sum(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error

def train(name, exact=False, samples=%(SAMPLES)d, epochs=%(EPOCHS)d, rate=0.05, **fit):
    random.set_random_seed(3)
    start = {"kernel_initializer": FewBits()} if exact else {}
    stack = [layers.Conv2D(4, 3, activation="relu", input_shape=(6, 6, 4), **start), layers.MaxPooling2D(2)]
    stack += [layers.Flatten(), layers.Dropout(0.5)]
    stack += [] if exact else [layers.BatchNormalization(), layers.Dense(12)]
    model = Sequential([*stack, layers.Dense(3, activation=None if exact else "softmax", **start)])
    x, y = X[:samples], Y[:samples]
    if exact:
        x, y = np.rint(2 * x), np.rint(2 * x[:, 0, 0, :3])
        model.compile(SGD(2.0**-6), squares)
    else:
        model.compile(SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=epochs, batch_size=%(BATCH)d, verbose=2, **fit).history
    printed[name] = [history, [w.tolist() for w in model.get_weights()]]
    return model
""" % {"SAMPLES": SAMPLES, "BATCH": BATCH, "EPOCHS": EPOCHS}  # noqa: UP031

ON_CPUS = """
train("same")
train("sixteen", exact=True, samples=16, epochs=1)
train("one", exact=True, samples=1, epochs=1)
"""

ON_GPUS = """
train("same")
recorded = driver.counters().graph_launches
train("sixteen", exact=True, samples=16, epochs=1)
train("one", exact=True, samples=1, epochs=1)
os.environ["GPUCNN_GRAPH"] = "0"
eager = driver.counters().graph_launches
train("eager")
printed["graph_launches"] = [recorded, driver.counters().graph_launches - eager]
del os.environ["GPUCNN_GRAPH"]
resident_parts.LARGE = 0
train("buckets")
try:
    train("overflow", rate=1e30)
except TrainingError as error:
    printed["overflow"] = str(error)
distributed.stop()
nccl.unavailable = lambda: "it was taken away"
distributed.start(parts=2, time_limit=60)
train("staged")
"""

HANG = """
distributed.stop()
nccl.unavailable = lambda: None
distributed.start(parts=2, time_limit=4)
X, Y = np.tile(X, (2000, 1, 1, 1)), np.tile(Y, 2000)
begun = LambdaCallback(on_train_batch_end=lambda batch, logs: print("batch", batch, flush=True))
train("hang", samples=len(X), callbacks=begun)
"""

SHOW = """
if group.rank == 0:
    print(json.dumps(printed), flush=True)
"""


@pytest.fixture(scope="module")
def built():
    try:
        build.prepare()
    except KernelError as error:
        if build.NOT_FETCHED not in str(error):
            raise
        pytest.skip(str(error))


def job(folder, device, count, code):
    """Start a program in so many processes, each with a GPU of its own."""
    script = folder / f"{device}.py"
    script.write_text(code)
    emulated = ("-m", "gpucnn", "emulate-gpu", "--lazy", 0, "--devices", count, "python") if device == "gpu" else ()
    return ranks(count, *emulated, script, device, path=__file__)


@pytest.fixture(scope="module")
def results(tmp_path_factory, built):
    """What processes on GPUs and on CPUs have trained, and all that the former printed; in the end, one of the
    former hung."""
    folder = tmp_path_factory.mktemp("gpus")
    processes = [job(folder, "cpu", 2, PROGRAM + ON_CPUS + SHOW)]
    processes.append(job(folder, "gpu", 2, PROGRAM + ON_GPUS + SHOW + HANG))
    try:
        on_cpus, on_gpus = processes
        out, err = on_cpus.communicate(timeout=2 * LIMIT)
        assert on_cpus.returncode == 0, err
        expected, lines = json.loads(out.splitlines()[-1]), []
        for line in iter(on_gpus.stdout.readline, ""):
            lines.append(line)
            if line == "batch 20\n" and lines.count(line) == 1:  # both ranks say so
                os.kill(pids(on_gpus.pid)[1], signal.SIGSTOP)
        _, err = on_gpus.communicate(timeout=LIMIT)
        got = [line for line in lines if line.startswith("{")]
        assert got, err
        return json.loads(got[0]), expected, "".join(lines) + err
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_recorded_steps_of_two_gpus_give_the_bits_of_steps_launched_from_python(results):
    """33 samples in batches of 16, two epochs. Of the last batch of one sample, rank 0 has none. The same where
    the gradients of the last layers are added up during the backward pass."""
    got, _, _ = results
    recorded, eager = got["graph_launches"]
    assert recorded >= EPOCHS * 2 and eager == 0
    assert got["same"] == got["eager"]
    assert got["buckets"] == got["same"]


def test_sums_in_the_memory_of_the_host_give_the_bits_of_nccl(results):
    got, _, printed = results
    assert got["staged"] == got["same"]
    assert printed.count("added up in the memory of the host, which takes longer: it was taken away") == 1


@pytest.mark.parametrize("samples", ["sixteen", "one"])
def test_where_single_steps_are_exact_those_of_two_gpus_and_two_cpus_are_equal(results, samples):
    got, expected, _ = results
    assert got[samples] == expected[samples]


def test_two_gpus_train_as_two_cpus_within_rounding(results):
    """Products of 36 and 32 terms and sums of 16 samples; six steps, each of which doubles errors at most."""
    (history, weights), (expected, expected_weights) = (of["same"] for of in results[:2])
    bound = 2**6 * 36 * 2.0**-24
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=bound)
    assert history["accuracy"] == expected["accuracy"]
    for one, other in zip(weights, expected_weights, strict=True):
        one, other = np.array(one), np.array(other)
        assert np.abs(one - other).max() <= bound * max(1.0, np.abs(other).max())


def test_a_recorded_step_that_fails_is_named_as_in_one_process(results):
    assert re.match(r"the .+ at epoch 1, batch 1 \(counted from 0\); the weights are as", results[0]["overflow"])


def test_a_gpu_whose_process_hangs_ends_the_job_with_its_name(results):
    assert re.search(r"gpucnn: error: no answer from rank 1 \(pid \d+ on .+\) for 4 s", results[2])


def test_more_processes_than_gpus_are_refused(monkeypatch):
    class Second(distributed.Group):
        def __init__(self):
            self.rank, self.size = 1, 2

        gpu = 1

    monkeypatch.setattr(sys.modules["gpucnn.distributed.group"], "_group", Second())
    monkeypatch.setattr(choose, "gpu_state", lambda: (1, "there is one"))
    with pytest.raises(ArgumentError, match="rank 1 would compute on gpu:1, and this machine has 1"):
        distributed.device_of_rank("gpu")


SUMS = """
import json
import numpy as np
import gpucnn
from gpucnn import distributed
from gpucnn.devices import choose, storage
from gpucnn.devices.nccl import Nccl
group = distributed.start(time_limit=60)
gpucnn.use("cuda", device=distributed.device_of_rank("gpu"))
nccl = Nccl(group.size, group.rank, group.broadcast)
results = []
for ordered in (False, True):
    arrays = [storage.put(np.arange(count, dtype=np.float32) * (group.rank + 1)) for count in (70_000, 0, 3)]
    repeat = choose.current().record(lambda: nccl.add_up(arrays, ordered))
    repeat()
    choose.current().synchronize()
    results.append([float(storage.get(arrays[k])[i]) for k, i in ((0, 1), (0, 69_999), (2, 2))])
if group.rank == 0:
    print(json.dumps(results))
"""


def test_a_recorded_sum_is_repeated_by_all_processes(tmp_path, at_end, built):
    """Three ranks have i, 2 i and 3 i, which become 6 i; the recorded sum makes 18 i of them."""
    process = job(tmp_path, "gpu", 3, SUMS)
    at_end.append(process)
    out, err = process.communicate(timeout=2 * LIMIT)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1]) == [[18.0, 18.0 * 69_999, 36.0]] * 2
