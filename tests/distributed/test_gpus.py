"""Two processes, each on an emulated GPU, with NCCL and without, compared with two processes on the CPU."""

import json

import numpy as np
import pytest
from jobs import LIMIT
from needs import emulated_gpu_here, mpi_here, posix_here
from processes import ranks

from gpucnn.devices.emulator.driver import build
from gpucnn.errors import KernelError

pytestmark = [emulated_gpu_here, mpi_here, posix_here]

PROGRAM = """
import json, sys
import numpy as np
import gpucnn
from gpucnn import Sequential, distributed, layers, losses, random
from gpucnn.initializers import Initializer
from gpucnn.optimizers import SGD

device, staged, exact, samples = sys.argv[1], "staged" in sys.argv, "exact" in sys.argv, int(sys.argv[2])
if staged:
    from gpucnn.devices import nccl
    nccl.unavailable = lambda: "it was taken away"
group = distributed.start(parts=2, time_limit=60)
gpucnn.use("cuda" if device == "gpu" else "njit", device=distributed.device_of_rank(device))

class FewBits(Initializer):
    def __call__(self, shape, dtype=None):
        return (np.arange(np.prod(shape)).reshape(shape) % 3 - 1).astype(np.float32)

def squares(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).sum(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error

random.set_random_seed(3)
rng = np.random.default_rng(5)
start = {"kernel_initializer": FewBits()} if exact else {}
stack = [layers.Conv2D(4, 3, activation="relu", input_shape=(6, 6, 4), **start)]
stack += [layers.MaxPooling2D(2), layers.Flatten()]
stack += [layers.Dropout(0.5), layers.Dense(3, **start)] if exact else [
    layers.Dropout(0.4), layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dense(3)]
if exact:
    x, y = (rng.integers(-2, 3, (samples, *shape)).astype(np.float32) for shape in ((6, 6, 4), (3,)))
else:
    x, y = rng.normal(size=(samples, 6, 6, 4)).astype(np.float32), rng.integers(0, 3, samples)
model = Sequential(stack)
loss = squares if exact else losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(SGD(2.0**-6 if exact else 0.05), loss)
history = model.fit(x, y, epochs=1 if exact else 2, batch_size=16, verbose=2)
if group.rank == 0:
    print(json.dumps([history.history["loss"], [w.tolist() for w in model.get_weights()]]))
"""


@pytest.fixture(scope="module")
def built():
    try:
        build.prepare()
    except KernelError as error:
        if build.NOT_FETCHED not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def trained(tmp_path, at_end, built):
    """A function that trains with two processes: losses, weights, and what was printed on standard error."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def train(device, samples, *more):
        emulated = ("-m", "gpucnn", "emulate-gpu", "--devices", 2, "python") if device == "gpu" else ()
        process = ranks(2, *emulated, script, device, samples, *more, path=__file__)
        at_end.append(process)
        out, err = process.communicate(timeout=2 * LIMIT)
        assert process.returncode == 0, err
        (line,) = [line for line in out.splitlines() if line.startswith("[[")]
        return (*json.loads(line), out + err)

    return train


@pytest.mark.parametrize(("how", "samples"), [("nccl", 16), ("nccl", 1), ("staged", 16)])
def test_where_single_steps_are_equal_so_are_those_of_two_gpus_and_two_cpus(trained, how, samples):
    """All sums of the one step are exact in float32. Of a batch of one sample, rank 1 has none."""
    losses, weights, printed = trained("gpu", samples, "exact", how)
    expected, expected_weights, _ = trained("cpu", samples, "exact")
    assert losses == expected
    assert weights == expected_weights
    assert ("added up in the memory of the host" in printed) == (how == "staged")


def test_two_gpus_train_as_two_cpus_within_rounding(trained):
    """Products of 36 and 32 terms and sums of 16 samples; four steps, each of which doubles errors at most."""
    losses, weights, _ = trained("gpu", 32)
    expected, expected_weights, _ = trained("cpu", 32)
    bound = 2**4 * 36 * 2.0**-24
    np.testing.assert_allclose(losses, expected, rtol=bound)
    for one, other in zip(weights, expected_weights, strict=True):
        one, other = np.array(one), np.array(other)
        assert np.abs(one - other).max() <= bound * max(1.0, np.abs(other).max())


def test_more_processes_than_gpus_are_refused(tmp_path, at_end, built):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    process = ranks(2, "-m", "gpucnn", "emulate-gpu", "python", script, "gpu", 16, path=__file__)
    at_end.append(process)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert "rank 1 would compute on gpu:1, and this machine has 1" in err


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
    array = storage.put(np.arange(70_000, dtype=np.float32) * (group.rank + 1))
    repeat = choose.current().record(lambda: nccl.add_up(array, ordered))
    repeat()
    choose.current().synchronize()
    results.append([float(storage.get(array)[i]) for i in (1, 69_999)])
if group.rank == 0:
    print(json.dumps(results))
"""


def test_a_recorded_sum_is_repeated_by_all_processes(tmp_path, at_end, built):
    """Three ranks have i, 2 i and 3 i, which become 6 i; the recorded sum makes 18 i of them."""
    script = tmp_path / "sums.py"
    script.write_text(SUMS)
    process = ranks(3, "-m", "gpucnn", "emulate-gpu", "--devices", 3, "python", script, path=__file__)
    at_end.append(process)
    out, err = process.communicate(timeout=2 * LIMIT)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1]) == [[18.0, 18.0 * 69_999]] * 2
