"""Kernels in CUDA C++, compiled side by side before they are launched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

from . import choose, threads
from .launchable import CudaLaunchable

LONG = 1.0
"""Seconds of waiting for compilers after which a line says so."""


class _Thread(threading.local):
    compile: Callable[[CudaLaunchable], None] | None = None


thread = _Thread()
"""`compile` gets the kernels that this thread would launch while it rehearses; else it is None."""


def compile_ahead(
    rehearse: Callable[[], object],
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Compile what `rehearse` would launch, for the device in use and on all cores; meanwhile this thread launches
    nothing. Returns how many compilations that takes; on the CPU none.

    say       gets a line if it takes long
    progress  is called with how many compilations are done, and how many there are
    """
    device, compiling = choose.current(), dict[Hashable, Future[Any]]()
    if device.cc is None:
        return 0
    compilers = ThreadPoolExecutor(threads.available(), "gpucnn-compiler", device.activate)

    def compile(function: CudaLaunchable) -> None:
        unit = device.compiled_together(function)
        if unit not in compiling and not device.is_compiled(function):
            compiling[unit] = compilers.submit(device.prepare_cuda, function)

    try:
        thread.compile = compile
        with device.temporary_arrays():
            rehearse()
        left = wait(compiling.values(), LONG).not_done
        if left:
            say(f"compiling kernels for {device.name}, which are kept: {len(left)} of {len(compiling)} to go")
        for done, kernel in enumerate(as_completed(compiling.values()), 1):
            kernel.result()
            progress(done, len(compiling))
    finally:
        thread.compile = None
        compilers.shutdown(cancel_futures=True)
    return len(compiling)
