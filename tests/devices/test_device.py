"""Where arrays live: alignment, recycling, and the message where there is no GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gpucnn.devices import choose, cpu, storage
from gpucnn.errors import ArgumentError, KernelError


def test_arrays_start_at_multiples_of_256_bytes_whatever_their_size():
    for size in (1, 3, 100, 20_000, 1_000_000):
        array = storage.empty((size,), np.float32)
        assert array.ctypes.data % 256 == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert storage.empty((0, 3)).shape == (0, 3)
    assert not storage.zeros((1000,)).any()


def test_memory_is_recycled_once_no_view_of_it_lives():
    """The pool is looked at as well: the system's allocator, too, returns an address again."""
    cpu.CPU.release()
    array = storage.empty((123_457,), np.float32)
    address, view = array.ctypes.data, array[5:10]
    del array
    other = storage.empty((123_457,), np.float32)
    assert other.ctypes.data != address, "a view still lived"
    assert cpu.CPU.idle_bytes == 0
    del view
    assert cpu.CPU.idle_bytes == 123_457 * 4
    recycled = storage.empty((123_457,), np.float32)
    assert recycled.ctypes.data == address
    assert cpu.CPU.idle_bytes == 0


def test_idle_memory_is_bounded(monkeypatch):
    cpu.CPU.release()
    monkeypatch.setattr(cpu, "_IDLE_BYTES", 1000)
    arrays = [storage.empty((100,), np.float64) for _ in range(5)]
    del arrays
    assert cpu.CPU.idle_bytes == 2 * 800


def test_select_resolves_auto_and_refuses_unknown_names():
    assert choose.select() == choose.select("cpu") == "cpu"
    with pytest.raises(ArgumentError, match="device='tpu' is unknown: did you mean 'cpu' or 'gpu'"):
        choose.select("tpu")


def test_a_gpu_that_is_not_there_is_an_error_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(KernelError, match=r"device='gpu:1' needs an NVIDIA GPU: CuPy cannot be imported"):
        choose.select("gpu:1")


def runtime(count):
    def get_count():
        if isinstance(count, Exception):
            raise count
        return count

    properties = {"name": b"A Test GPU"}
    return SimpleNamespace(
        cuda=SimpleNamespace(
            runtime=SimpleNamespace(getDeviceCount=get_count, getDeviceProperties=lambda i: properties)
        )
    )


def test_a_missing_driver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", runtime(RuntimeError("cudaErrorInsufficientDriver: too old\nmore")))
    assert choose.gpu_state() == (0, "no NVIDIA driver found")
    monkeypatch.setitem(sys.modules, "cupy", runtime(RuntimeError("out of order\nmore")))
    assert choose.gpu_state() == (0, "out of order")


def test_gpus_are_chosen_by_number(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", runtime(2))
    assert choose.gpu_state() == (2, "A Test GPU, A Test GPU")
    assert choose.select() == "cpu"
    assert choose.select("gpu") == "gpu:0"
    assert choose.select("gpu:1") == "gpu:1"
    with pytest.raises(
        KernelError, match=r"device='gpu:2': the GPUs here are numbered 0 … 1 \(A Test GPU, A Test GPU\)"
    ):
        choose.select("gpu:2")
