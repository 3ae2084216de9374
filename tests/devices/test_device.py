"""Where arrays live: alignment, recycling, and the message where there is no GPU."""

import gc
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
    array = storage.empty((123_457,), np.float32)
    address, view = array.ctypes.data, array[5:10]
    del array
    other = storage.empty((123_457,), np.float32)
    assert other.ctypes.data != address, "a view still lived"
    idle = cpu.CPU.idle_bytes
    del view
    assert cpu.CPU.idle_bytes == idle + -(-123_457 * 4 // 256) * 256
    recycled = storage.empty((123_457,), np.float32)
    assert recycled.size and cpu.CPU.idle_bytes == idle, "not taken from the pool"


@pytest.fixture
def arena():
    """A function that makes arrays of so many bytes in an arena of its own, which is its attribute."""

    def empty(nbytes):
        with cpu.allocating_from(empty.arena):
            return storage.empty((nbytes,), np.uint8)

    empty.arena = cpu.Arena()
    return empty


def test_smaller_arrays_share_the_memory_of_one_that_died(arena):
    large = arena(1024)
    first = large.ctypes.data
    del large
    parts = [arena(256), arena(512), arena(100)]
    assert [part.ctypes.data - first for part in parts] == [0, 256, 768]
    assert arena.arena.total_bytes == 1024


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_memory_that_meets_becomes_one_whatever_dies_first(arena, order):
    parts = {i: arena(256) for i in range(3)}
    end = arena(256)
    for i in order:
        del parts[i]
    arena(768)
    assert arena.arena.total_bytes == 1024
    assert end.nbytes == 256


def test_an_array_gets_the_smallest_memory_that_has_room(arena):
    parts = [arena(nbytes) for nbytes in (1024, 256, 512, 256)]
    address = parts[2].ctypes.data
    del parts[0], parts[1]
    assert arena(300).ctypes.data == address


def test_what_an_arena_has_not_used_is_free_for_others(arena):
    kept = arena(1 << 20)
    idle = cpu.CPU.idle_bytes
    arena.arena.trim()
    assert cpu.CPU.idle_bytes > idle
    assert arena.arena.total_bytes == kept.nbytes
    other = storage.empty((1 << 20,), np.uint8)
    assert abs(other.ctypes.data - kept.ctypes.data) >= kept.nbytes


def test_an_arena_prefers_memory_that_arrays_have_had(arena, monkeypatch):
    monkeypatch.setattr(cpu, "_PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(cpu, "_memory", cpu._Memory())
    kept, used = (storage.empty((500 << 10,), np.uint8) for _ in range(2))
    other = storage.empty((100 << 10,), np.uint8)
    del used, other  # a part of the first piece, and the whole second one, of which less was in use
    distances = [arena(nbytes).ctypes.data - kept.ctypes.data - kept.nbytes for nbytes in (300 << 10, 450 << 10)]
    del arena.arena  # which gives its memory back to the pool of this test
    assert distances == [256, 256]


def test_memory_of_an_arena_is_free_when_the_arena_and_its_arrays_are_gone(arena):
    storage.empty((1 << 20,), np.uint8)
    idle = cpu.CPU.idle_bytes
    kept = arena(1 << 20)
    del arena.arena
    assert cpu.CPU.idle_bytes < idle
    del kept
    assert cpu.CPU.idle_bytes == idle


def test_idle_memory_is_bounded(monkeypatch):
    gc.collect()  # arrays of models of other tests, which would be given back meanwhile
    cpu.CPU.release()
    before = cpu.CPU.idle_bytes
    monkeypatch.setattr(cpu, "_PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(cpu, "_IDLE_BYTES", before + (5 << 19))
    arrays = [storage.empty((1 << 20,), np.uint8) for _ in range(5)]
    assert cpu.CPU.idle_bytes <= before
    del arrays
    assert before <= cpu.CPU.idle_bytes <= before + (2 << 20)


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
