"""The most memory that a process has occupied."""

import sys

import numpy as np
import pytest

from gpucnn.devices import free_memory
from gpucnn.devices.cpu import CPU


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say it to Python")
def test_the_peak_of_the_process_grows_with_what_it_touches_and_stays():
    before = free_memory.peak()
    array = np.ones(max(before, 1 << 26), np.uint8)
    with_array = free_memory.peak()
    assert with_array >= len(array)
    del array
    assert free_memory.peak() > 0.9 * with_array > before  # the system counts pages in lots


def test_what_the_system_does_not_say_is_unknown(monkeypatch):
    def unreadable(*_, **__):
        raise OSError

    monkeypatch.setattr(free_memory.Path, "read_text", unreadable)
    monkeypatch.setattr(sys, "platform", "linux")
    assert free_memory.peak() is None


def test_the_cpu_has_no_memory_of_its_own():
    assert CPU.peak_bytes() is None
