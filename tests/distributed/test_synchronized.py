"""BatchNormalization that shares its statistics among processes."""

import json

import numpy as np
import pytest
from jobs import LIMIT
from needs import mpi_here, posix_here
from processes import ranks

from gpucnn import Sequential, distributed, layers, random
from gpucnn.errors import ArgumentError
from gpucnn.layers.synchronized_batchnorm import merged
from gpucnn.optimizers import SGD

PROGRAM = """
import json
import numpy as np
from gpucnn import distributed
from test_synchronized import trained
group = distributed.start(time_limit=60)
weights, losses = trained(synchronized={synchronized}, samples={samples})
if group.rank == 0:
    print(json.dumps([[array.tolist() for array in weights], losses]))
"""

EPOCHS, BATCH = 3, 10


def trained(synchronized, samples=24):
    """Weights and losses of a small model; a last batch of four samples, or of one. It has no weights that
    normalisation makes void: their gradients are rounding errors alone."""
    random.set_random_seed(3)
    rng = np.random.default_rng(8)
    x = (3 + rng.normal(size=(samples, 5, 4, 3))).astype(np.float32)
    y = rng.integers(0, 2, samples)
    model = Sequential([
        layers.Conv2D(4, 3, use_bias=False, input_shape=(5, 4, 3)),
        layers.BatchNormalization(synchronized=synchronized, momentum=0.5, center=False),
        layers.Flatten(),
        layers.BatchNormalization(synchronized=synchronized, scale=False),
        layers.Dense(2, activation="softmax"),
    ])  # fmt: skip
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    history = model.fit(x, y, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    return model.get_weights(), history.history["loss"]


def test_moments_of_parts_are_merged_into_those_of_all_values(rng):
    values = rng.normal(50, 2, (30, 3))
    parts = np.split(values, [7, 7, 11])
    moments = [(part.mean(0), part.var(0)) if len(part) else (np.full(3, 9.0), np.ones(3)) for part in parts]
    mean, variance = merged(np.array([len(p) for p in parts]), *(np.array(m) for m in zip(*moments, strict=True)))
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-13)
    np.testing.assert_allclose(variance, values.var(0), rtol=1e-10)


def test_alone_it_is_plain_batch_normalization():
    for one, other in zip(trained(True)[0], trained(False)[0], strict=True):
        assert np.array_equal(one, other)


@mpi_here
@posix_here
@pytest.mark.parametrize(("count", "samples"), [(2, 24), (3, 21)], ids=["all", "idle"])
def test_several_processes_normalise_as_one(tmp_path, at_end, count, samples):
    """Compared with one process, whose sums run in another order: a step of this model multiplies a relative
    error of 2⁻²⁴ by less than 2⁴, and nine steps follow each other."""
    bound = 9 * 2**4 * 2.0**-24

    def together(synchronized):
        script = tmp_path / f"{synchronized}.py"
        script.write_text(PROGRAM.format(synchronized=synchronized, samples=samples))
        process = ranks(count, script, path=__file__)
        at_end.append(process)
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        return json.loads(out)

    def difference(result):
        weights, losses = result
        pairs = [*zip(weights, expected, strict=True), (losses, expected_losses)]
        return max(np.abs(np.array(a) - b).max() / np.abs(b).max() for a, b in pairs)

    expected, expected_losses = trained(False, samples)
    assert difference(together(True)) <= bound
    assert not difference(together(False)) <= 100 * bound


def test_parts_that_follow_each_other_cannot_be_synchronized():
    distributed.start(parts=2)
    try:
        with pytest.raises(ArgumentError, match="is synchronized, and the statistics of 2 parts cannot be exchanged"):
            trained(True)
    finally:
        distributed.stop()
