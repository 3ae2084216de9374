"""A GPU is used by itself once it has passed its check, and never in silence if it has not."""

import numpy as np
import pytest

import gpucnn
from gpucnn.devices import choose, emulator
from gpucnn.errors import KernelError
from gpucnn.ops.matmul import matmul
from gpucnn.profiling import trials
from gpucnn.runs import commands, self_check
from gpucnn.runs.settings import RunSettings

in_emulator = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))


@pytest.fixture(autouse=True)
def _few_kernels(monkeypatch, tmp_path):
    """A check of one kernel, and a cache of its own."""
    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path))
    kernel = matmul.kernels(("cuda",))["naive_cuda"]
    monkeypatch.setattr(self_check, "_kernels", lambda: iter([kernel]))


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as far as names go; what is checked runs in the emulator."""
    monkeypatch.setattr(choose, "gpu_state", lambda: (1, "Some GPU"))
    monkeypatch.setattr(self_check, "_training", lambda where: None)
    run = trials.trials
    monkeypatch.setattr(trials, "trials", lambda kernels, where, largest: run(kernels, "emulator", largest=largest))


def test_every_op_with_kernels_in_cuda_is_checked_by_the_kernel_that_is_taken(monkeypatch):
    monkeypatch.undo()
    checked = {kernel.op.name: kernel for kernel in self_check._kernels()}
    for op in trials.every_op():
        kernels = op.kernels(("cuda",))
        if op.__module__.startswith("gpucnn.") and kernels:
            assert checked[op.name].id in {kernel.id for kernel in kernels.values()}
            assert checked[op.name].algorithm in op.prefer


@in_emulator
def test_the_check_passes_in_the_emulator_and_its_verdict_is_kept():
    said = []
    verdict = self_check.run("emulator", said.append)
    assert verdict.fault is None and verdict.kernels == 1 and verdict.cases == 4
    assert self_check.stored("emulator") == verdict
    assert len(said) == 1


@in_emulator
def test_a_wrong_training_is_seen(monkeypatch):
    losses = self_check._losses
    monkeypatch.setattr(self_check, "_losses", lambda where: losses("cpu") * (1.01 if where == "emulator" else 1))
    assert "20 steps of training differ" in self_check.run("emulator").fault


@in_emulator
def test_auto_takes_a_gpu_that_passes_and_checks_it_once(gpu):
    said = []
    assert self_check.device("auto", said.append) == "gpu:0"
    assert self_check.device("auto", said.append) == "gpu:0"
    assert len(said) == 1


@in_emulator
def test_auto_warns_and_takes_the_cpu_where_a_kernel_is_wrong(gpu, monkeypatch):
    monkeypatch.setattr(trials.Trial, "fault", lambda self: "a value is off by 1")
    with pytest.warns(UserWarning, match="Some GPU is not used.*matmul/naive_cuda.*off by 1.*CPU is used"):
        assert self_check.device("auto") == "cpu"
    with pytest.raises(KernelError, match="off by 1"):
        self_check.device("gpu")


def test_a_gpu_that_failed_is_refused_by_name_with_every_backend(gpu, monkeypatch):
    monkeypatch.setattr(trials, "trials", lambda kernels, where, largest: [])
    monkeypatch.setattr(self_check, "_training", lambda where: "the losses differ by 1")
    self_check.run("gpu:0")
    for backend in ("auto", "cuda", "numba"):
        with pytest.raises(KernelError, match="'gpu' fails its check: the losses differ by 1; the CPU is used with"):
            RunSettings(device="gpu", backend=backend).apply()


def test_use_auto_takes_the_gpu_that_has_passed_its_check(gpu, monkeypatch, capsys):
    monkeypatch.setattr(trials, "trials", lambda kernels, where, largest: [])
    taken = []
    use = choose.use
    monkeypatch.setattr(choose, "use", lambda name: (taken.append(name), use("cpu"))[1])
    for call in (
        lambda: gpucnn.use("auto"),
        lambda: gpucnn.use(device="auto"),
        lambda: gpucnn.use("auto", device="cpu"),
    ):
        call()
    with gpucnn.using("auto"):
        pass
    assert taken == ["gpu:0", "gpu:0", "cpu", "gpu:0"]
    assert capsys.readouterr().out.count("checking Some GPU once") == 1


@in_emulator
def test_use_auto_warns_and_takes_the_cpu_where_a_kernel_is_wrong(gpu, monkeypatch):
    monkeypatch.setattr(trials.Trial, "fault", lambda self: "a value is off by 1")
    with pytest.warns(UserWarning, match="Some GPU is not used, because it fails its check"):
        gpucnn.use("auto")
    assert choose.current().name == "cpu"


def test_without_a_gpu_auto_is_the_cpu_and_nothing_is_checked(monkeypatch):
    monkeypatch.setattr(choose, "gpu_state", lambda: (0, "no NVIDIA driver found"))
    assert self_check.device("auto") == "cpu"
    assert self_check.device("emulator") == "emulator"


def test_a_verdict_holds_for_one_driver_and_one_state_of_the_kernels_alone(gpu, monkeypatch):
    monkeypatch.setattr(trials, "trials", lambda kernels, where, largest: [])
    self_check.run("gpu:0")
    assert self_check.stored("gpu:0") is not None
    versions = self_check.records.versions()
    monkeypatch.setattr(self_check.records, "versions", lambda: {**versions, "driver": "1.0"})
    assert self_check.stored("gpu:0") is None


def test_a_damaged_verdict_is_as_none(gpu, tmp_path):
    folder = tmp_path / "self-check"
    folder.mkdir()
    (folder / self_check._file("gpu:0")).write_bytes(np.random.default_rng(0).bytes(50))
    assert self_check.stored("gpu:0") is None


@in_emulator
def test_a_run_that_checks_first_ends_with_the_same_weights(tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8)
    np.savez(tmp_path / "few.npz", x_train=x, y_train=np.arange(8) % 2, x_test=x, y_test=np.arange(8) % 2)
    settings = RunSettings(data=str(tmp_path / "few.npz"), model="slides", epochs=1, batch_size=4)

    def checking(name, say):
        self_check.run("emulator")
        return "cpu"

    runs = [commands.train(settings, tmp_path / "plain", pictures=False)]
    monkeypatch.setattr(self_check, "device", checking)
    runs.append(commands.train(settings, tmp_path / "checked", pictures=False))
    assert runs[0].record["weights_sha256"] == runs[1].record["weights_sha256"]
