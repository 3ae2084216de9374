"""A training step measured in turns with its rivals."""

import sys
from functools import partial
from types import SimpleNamespace

import needs
import numpy as np
import pytest

import gpucnn
from gpucnn import layers
from gpucnn.devices import threads
from gpucnn.devices.emulator import driver
from gpucnn.dispatch import choice
from gpucnn.errors import ArgumentError, GpucnnError
from gpucnn.models.training_step import TrainingStep
from gpucnn.runs import rivals, step, step_profile, step_race, zoo


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def small(model="slides", count=2, size=2):
    return rivals.Problem.random(model, "cpu", count, size)


def losses(maker, dropout=False):
    loop = maker(dropout)
    return loop.losses(loop.run())


def test_pytorch_from_the_same_weights_has_the_same_losses(torch):
    problem = small()
    ours = losses(rivals.gpucnn_maker(problem))
    for maker in rivals.makers(problem, "torch"):
        assert rivals.agree(losses(maker), ours) < 1e-5


@pytest.mark.parametrize("model", step.OPTIMIZERS)
def test_every_course_model_is_the_same_in_pytorch(torch, model):
    problem = small(model)
    assert rivals.agree(losses(rivals.makers(problem, "torch")[0]), losses(rivals.gpucnn_maker(problem))) < 1e-4


def test_pytorch_compiles_every_model_of_a_process(torch, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    limits = {"recompile_limit": 1, "fail_on_recompile_limit_hit": True}
    x, y = torch.ones(2, 3), torch.tensor([0, 1])
    with torch._dynamo.config.patch(limits):
        for units in (2, 4):
            assert rivals.compiled_loss(torch.nn.Linear(3, units))(x, y) > 0


def test_blas_is_called_as_in_fit(monkeypatch):
    seen = []

    def train(self, batch):
        seen.extend(library.get_num_threads() for library in threads.blas_libraries())
        return 1.0

    monkeypatch.setattr(TrainingStep, "train", train)
    losses(rivals.gpucnn_maker(small()))
    assert set(seen) == {1}


@pytest.mark.parametrize("other", [[1.0, 2.01], [1.0, float("nan")]])
def test_losses_that_differ_are_refused(other):
    with pytest.raises(GpucnnError, match="losses of the first steps differ"):
        rivals.agree(other, [1.0, 2.0])


def test_losses_with_tf32_may_differ_by_its_rounding():
    assert rivals.agree([1.01], [1.0], "tf32") == pytest.approx(0.01)


def test_a_contender_is_timed_in_each_round_and_compared_with_gpucnn(torch, monkeypatch):
    clock = iter(np.arange(1000.0))
    monkeypatch.setattr(step_race, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    rows = step_race.measure("slides", "cpu", "auto", ("torch",), seconds=0, batches=2, size=2)
    assert [row.contender for row in rows] == ["gpucnn", "torch"]
    for row in rows:
        assert (row.milliseconds, row.rounds) == (500.0, 5)  # each tick is a second, for two batches
        assert row.ratio == row.ratio_low == row.ratio_high == 1
        assert row.loss_difference < 1e-5


def test_a_rival_that_cannot_run_is_a_row_that_says_why(torch):
    ours, theirs = step_race.measure("slides", "cpu", "auto", ("torch-graph",), seconds=0, batches=2, size=2)
    assert ours.milliseconds > 0
    assert theirs.milliseconds is None
    assert theirs.note == "not here: a CUDA graph needs a GPU"


def test_a_package_that_is_missing_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    for name, sentence in (("torch", "PyTorch is not installed: pip install torch"), ("jax", "JAX is not installed")):
        with pytest.raises(rivals.Absent, match=sentence):
            rivals.makers(small(), name)


def test_an_unknown_rival_is_refused_before_anything_is_measured():
    with pytest.raises(ArgumentError, match=r"--vs tensorflow is unknown: use some of torch, .*jax"):
        step_race.require_known(["torch", "tensorflow"])


def test_the_emulator_is_not_timed():
    with pytest.raises(ArgumentError, match="--device emulator is not timed"):
        step_race.timed_device("emulator")


def test_an_emulated_gpu_is_not_timed(monkeypatch):
    assert step_race.timed_device("gpu:0") == "gpu:0"
    monkeypatch.setattr(driver, "running", lambda: True)
    with pytest.raises(ArgumentError, match="--device gpu:0 is emulated and is not timed: use cpu or a GPU"):
        step_race.timed_device("gpu:0")
    assert step_race.timed_device("cpu") == "cpu"


@needs.emulator_here
def test_gpucnns_loop_in_the_emulator_is_the_recorded_step():
    problem = rivals.Problem.random("slides", "emulator", 1, 2)
    assert (
        rivals.agree(losses(rivals.gpucnn_maker(problem, "cuda")), losses(rivals.gpucnn_maker(small(count=1)))) < 1e-4
    )


def test_batch_normalization_is_the_same_in_each_library(torch):
    pytest.importorskip("jax")
    problem = rivals.Problem.random("vgg-small", "cpu", 2, 8)
    expected = losses(rivals.gpucnn_maker(problem))
    for name in ("torch", "jax"):
        assert rivals.agree(losses(rivals.makers(problem, name)[0]), expected) < 1e-4


def test_a_layer_that_a_rival_does_not_have_is_named(torch, monkeypatch):
    def parts(classes):
        return [layers.Permute((2, 1, 3)), layers.Flatten(), layers.Dense(classes, activation="softmax")]

    entry = zoo.Entry("turned", parts, zoo.find("slides").training, "of this test")
    monkeypatch.setattr(zoo, "_ENTRIES", (*zoo._ENTRIES, entry))
    ours, theirs = step_race.measure("turned", "cpu", "auto", ("torch",), seconds=0, batches=1, size=2)
    assert ours.milliseconds > 0
    assert theirs.note == "not here: permute has no translation"


def test_the_kernels_of_any_compiled_model_are_timed():
    model = gpucnn.Sequential([layers.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3, activation="softmax")])
    x, y = np.ones((5, 4, 4, 1)), np.arange(5) % 3
    with pytest.raises(ArgumentError, match="profile before compile"):
        step_profile.profile(model, x, y)
    model.compile("adam", "sparse_categorical_crossentropy")
    with choice.using("njit", device="cpu"):
        profiled = step_profile.profile(model, x, y, seconds=0)
    assert (profiled.batch_size, profiled.optimizer) == (5, "adam")
    assert [one.op for one in profiled.kernels if one.op][-1] == "adam"
