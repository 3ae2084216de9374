"""The memory that a run needs, counted before it starts, and how much is free on each system."""

import subprocess
import sys
import types
import weakref
from pathlib import Path

import numpy as np
import pytest
from needs import numba_here

import gpucnn
from gpucnn import layers
from gpucnn.devices import free_memory
from gpucnn.errors import MemoryNeedError
from gpucnn.models import memory
from gpucnn.models.training_step import TrainingStep
from gpucnn.runs import zoo

GB = 1000**3


def compiled(name, optimizer="adam"):
    model = zoo.find(name).build()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


# -- what is needed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "slots"), [("sgd", 0), ("rmsprop", 1), ("adam", 2)])
def test_parameters_gradients_and_slots_are_counted_by_their_arrays(optimizer, slots):
    model = compiled("slides", optimizer)
    need = memory.need(model)
    assert need.parameters == 4 * 38_390
    assert need.gradients == model.parameters.gradients.nbytes
    assert slots * need.gradients <= need.slots <= slots * need.gradients + 64


def test_an_image_needs_itself_and_four_arrays_for_each_array_between_the_layers():
    with gpucnn.using("numpy"):
        outputs = 24 * 24 * 10 + 12 * 12 * 10 + 8 * 8 * 20 + 4 * 4 * 20 + 320 + 100 + 10
        assert memory.need(compiled("slides")).image == 4 * (28 * 28 + 4 * outputs)


def test_layers_that_are_computed_together_need_less():
    together = memory.need(compiled("slides")).image
    with gpucnn.using("numpy"):
        assert together < memory.need(compiled("slides")).image / 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process from /proc")
@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_the_estimate_is_at_least_the_use_and_not_far_above(backend):
    program = f"""
import re, numpy as np, gpucnn
from gpucnn.models import memory
from gpucnn.runs import zoo
gpucnn.use({backend!r})
model = zoo.find("slides").build()
model.compile("adam", "sparse_categorical_crossentropy")
def peak(batch):
    for _ in range(2):
        model.train_on_batch(np.zeros((batch, 28, 28, 1), np.float32), np.zeros(batch, np.int64))
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
small = peak(64)
print(peak(1064) - small, memory.need(model).image * 1000)
"""
    program = program.replace(
        "print((peak(64), peak(2064))[1] - peak(64),", "small = peak(64)\nprint(peak(2064) - small,"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=850)
    used, foreseen = map(int, done.stdout.split())
    assert used <= foreseen <= 4 * used


def test_the_largest_batch_that_fits_is_named_and_fits(monkeypatch):
    monkeypatch.setattr(free_memory, "available", lambda: GB)
    model = compiled("mlearning")
    with pytest.raises(MemoryNeedError, match=r"a batch of 1000000 images needs .* and 1.0 GB is free") as caught:
        memory.check(model, 1_000_000, dataset=47_000_000)
    assert "data set 47.0 MB" in str(caught.value)
    fits = int(str(caught.value).rpartition(" ")[2])
    assert memory.check(model, fits, dataset=47_000_000).image * fits <= GB
    with pytest.raises(MemoryNeedError):
        memory.check(model, fits + 1, dataset=47_000_000)


def test_where_no_batch_fits_the_error_says_so(monkeypatch):
    monkeypatch.setattr(free_memory, "available", lambda: 1000)
    with pytest.raises(MemoryNeedError, match="no batch fits: use a smaller model"):
        memory.check(compiled("slides"), 1)


def test_a_run_is_not_stopped_where_the_free_memory_is_unknown(monkeypatch):
    monkeypatch.setattr(free_memory, "available", lambda: None)
    need = memory.check(compiled("slides"), 10**9, dataset=5)
    assert need.total(2) == need.parameters + need.gradients + need.slots + 2 * need.image + 5


# -- what a step holds -------------------------------------------------------------------------------------------------


def bytes_of_a_step(*stack):
    """The memory that the arrays of a recorded step take."""
    model = gpucnn.Sequential([gpucnn.Input((16, 16, 4)), *stack, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model.compile("sgd", "mse")
    for _ in range(4):
        model.train_on_batch(np.ones((32, 16, 16, 4)), np.ones((32, 3)))
    (recorded,) = model._trainer.step._recorded._steps.values()
    return recorded._gradients.allocated_bytes


OF_64_CHANNELS = 4 * 32 * 16 * 16 * 64


@numba_here
def test_the_gradient_before_an_activation_takes_the_place_of_the_one_behind_it():
    wide = [layers.Conv2D(64, 1, activation="relu") for _ in range(2)]
    assert bytes_of_a_step(*wide) < 4.5 * OF_64_CHANNELS  # two results, and the gradients by the last and the first


@numba_here
def test_normalised_values_die_with_the_rectifier_that_reads_them():
    block = lambda: [layers.Conv2D(64, 1, use_bias=False), layers.BatchNormalization(), layers.ReLU()]  # noqa: E731
    assert bytes_of_a_step(*block(), *block(), *block()) < 8.5 * OF_64_CHANNELS  # two a block, and two gradients


class Holding(layers.Layer):
    """Notes in its backward pass whether what the layer behind it holds is alive."""

    def forward(self, x, step, training):
        held = np.ones(3)
        self.held = weakref.ref(held)

        def backward(dy, need_dx=True):
            self.shape_of_held = held.shape
            self.behind_is_alive = self.behind is not None and self.behind.held() is not None
            return dy

        return x, backward


def test_a_last_layer_that_is_computed_with_the_loss_keeps_nothing_of_the_others(monkeypatch):
    def head(x, targets, factors, target):
        return x, np.zeros(len(x), np.float32), np.ones_like(x), lambda dy, need_dx=True: dy

    monkeypatch.setattr(TrainingStep, "head", lambda self: (self.nodes(), head)[1])
    first, second = Holding(), Holding()
    first.behind, second.behind = second, None
    stack = [layers.Dense(3), first, second, layers.Dense(3, activation="softmax")]
    model = gpucnn.Sequential([gpucnn.Input((2,)), *stack])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(np.ones((4, 2)), np.arange(4) % 3)
    assert not first.behind_is_alive


# -- what is free ------------------------------------------------------------------------------------------------------


def test_the_strictest_limit_counts(monkeypatch):
    for name, value in (("_system", 8 * GB), ("_control_group", 2 * GB), ("_address_space", None)):
        monkeypatch.setattr(free_memory, name, lambda value=value: value)
    assert free_memory.available() == 2 * GB
    monkeypatch.setattr(free_memory, "_control_group", lambda: -5)
    assert free_memory.available() == 0


def test_an_unknown_amount_is_none(monkeypatch):
    for name in ("_system", "_control_group", "_address_space"):
        monkeypatch.setattr(free_memory, name, lambda: None)
    assert free_memory.available() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/meminfo")
def test_linux_counts_what_can_be_reclaimed_as_free():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < free_memory._system() <= total
    assert free_memory._linux("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:      3 kB\n") == 3072
    assert free_memory._linux("nothing of the kind") is None


def test_macos_pages_are_read_from_vm_stat(monkeypatch):
    output = "(page size of 16384 bytes)\nPages free:   10.\nPages active: 99.\nPages inactive: 5.\n"
    monkeypatch.setattr(free_memory.sys, "platform", "darwin")
    monkeypatch.setattr(free_memory.subprocess, "run", lambda *a, **k: types.SimpleNamespace(stdout=output))
    assert free_memory._system() == 15 * 16384
    assert free_memory._macos("vm_stat changed its words") is None


def test_a_system_without_an_answer_is_unknown(monkeypatch):
    def fail(*_, **__):
        raise subprocess.CalledProcessError(1, "vm_stat")

    monkeypatch.setattr(free_memory.sys, "platform", "darwin")
    monkeypatch.setattr(free_memory.subprocess, "run", fail)
    assert free_memory._system() is None


@pytest.mark.parametrize("answer", [1, 0])
def test_windows_reports_through_its_kernel(monkeypatch, answer):
    import ctypes

    class Kernel:
        def GlobalMemoryStatusEx(self, reference):  # noqa: N802
            assert reference._obj.length == ctypes.sizeof(reference._obj) == 64
            reference._obj.free = 7 * GB
            return answer

    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=Kernel()), raising=False)
    monkeypatch.setattr(free_memory.sys, "platform", "win32")
    assert free_memory._system() == (7 * GB if answer else None)


def group(folder, limit, used, cache=0, names=("memory.max", "memory.current", "inactive_file")):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cache}\n")


OLD = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.mark.parametrize(
    ("groups", "memberships"),
    [
        pytest.param(
            [("", "max", 0), ("slice", 900, 500, 100), ("slice/job", 1000, 100)],
            {"0::/slice/job\n": 500, "0::/\n": None},
            id="version 2",
        ),
        pytest.param(
            [("memory", 2**63 - 4096, 7, 0, OLD), ("memory/job", 1000, 400, 50, OLD)],
            {
                "9:cpu,cpuacct:/\n4:memory:/job\n0::/\nnot a line of it\n": 650,
                "4:memory:/the/path/outside/of/this/container\n": None,
            },
            id="version 1",
        ),
    ],
)
def test_every_control_group_above_the_process_counts_and_page_cache_is_free(tmp_path, groups, memberships):
    for name, *limits in groups:
        group(tmp_path / name, *limits)
    membership = tmp_path / "cgroup"
    for text, free in memberships.items():
        membership.write_text(text)
        assert free_memory._control_group(tmp_path, membership) == free


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert free_memory._control_group(tmp_path, tmp_path / "missing") is None
    (tmp_path / "cgroup").write_text("0::/gone\n")
    assert free_memory._control_group(tmp_path, tmp_path / "cgroup") is None


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of a process")
def test_a_limit_on_the_address_space_is_seen():
    program = (
        "import resource; from gpucnn.devices import free_memory; assert free_memory._address_space() is None;"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 42, resource.RLIM_INFINITY)); print(free_memory._address_space())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600)
    assert (1 << 41) < int(done.stdout) < 1 << 42


def test_a_system_without_such_limits_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert free_memory._address_space() is None


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (None, "unknown"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (180_000_000, "180 MB"),
        (24 * GB, "24.0 GB"),
        (3 * 10**15, "3000 TB"),
    ],
)
def test_bytes_are_written_for_people(count, words):
    assert free_memory.readable(count) == words
