"""Every numba kernel compiles for the GPUs that gpucnn is meant for: no float64, nothing spilled, a block fits.

The launchers run on a device that only writes down what is launched; each kernel's PTX then becomes machine code, for
which no GPU is needed. Registers and shared memory are recorded as properties of the tests (`--junit-xml`).
GPUCNN_TEST_ALL=1 compiles for all generations instead of two.
"""

import importlib
import math
import os
import pkgutil
import re
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

import gpucnn.ops
from gpucnn import device, registry
from gpucnn.check import cases_for
from gpucnn.op import Spec

ALL = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
TARGETS = ALL if os.environ.get("GPUCNN_TEST_ALL") == "1" else ((8, 0), (9, 0))

REGISTERS_OF_A_MULTIPROCESSOR = 1 << 16
MOST_BLOCKS = (2**31 - 1, 65535, 65535)
MOST_THREADS = 1024
MOST_SHARED = 48 << 10


def _missing():
    """Why nothing can be compiled here, or None."""
    try:
        from gpucnn.numba_cuda import SIMULATED, np, numba_function

        if SIMULATED:
            return "this process is in Numba's simulator"

        @numba_function
        def fill(y):
            y[0] = np.float32(1)

        _assemble(fill, fill.signature([np.empty(1, np.float32)]), TARGETS[0])
    except Exception as error:
        reason, _, _ = str(error).partition("\n")
        return f"numba.cuda cannot compile here ({type(error).__name__}: {reason})"
    return None


class Resources(NamedTuple):
    """Registers of a thread and the bytes that it spills, from the assembler; bytes of shared memory, from the PTX."""

    registers: int
    spilled: int
    shared: int


@cache
def _assemble(function, signature, cc):
    """(PTX, Resources) of a kernel for these types of arguments and this compute capability."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    ptx, _ = function.ptx(signature, cc)
    options = LinkerOptions(arch=f"sm_{cc[0]}{cc[1]}", ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    linker.link("cubin")
    log = linker.get_info_log()
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    registers = re.search(r"Used (\d+) registers", log)
    assert registers and len(spills) >= 2, log
    shared = re.findall(r"\.shared \.align \d+ \.b8 \S+\[(\d+)\];", ptx)
    return ptx, Resources(int(registers[1]), sum(map(int, spills)), sum(map(int, shared)))


class Recorder(device.Device):
    """The CPU's memory, and a list of what would have been launched: (function, signature) → grids and threads."""

    name = "recorder"
    backends = ("numba",)

    def __init__(self):
        self.launches = {}

    def launch_numba(self, function, grid, block, shared_bytes, arguments):
        self.launches.setdefault((function, function.signature(arguments)), []).append((grid, math.prod(block)))


def _launches(kernel):
    """What the kernel launches, over all cases of its op."""
    before, recorder = device.current(), Recorder()
    device.return_to(recorder)
    try:
        for case in cases_for(kernel):
            operands = [None if draw is None else device.empty(draw.shape, draw.dtype) for draw in case.operands]
            specs = [None if a is None else Spec(a.shape, np.dtype(a.dtype)) for a in operands]
            outputs = [] if kernel.op.inplace else _tuple(kernel.op.outputs(*specs, **case.params))
            needs = _tuple(kernel.workspace(*specs, **case.params)) if kernel.workspace else ()
            made = [None if spec is None else device.empty(*spec) for spec in outputs]
            kernel.launch(*made, *operands, *(device.empty(*spec) for spec in needs), **case.params)
    finally:
        device.return_to(before)
    return recorder.launches


def _tuple(value):
    return value if isinstance(value, tuple) and not isinstance(value, Spec) else (value,)


MISSING = _missing()

for module in pkgutil.iter_modules(gpucnn.ops.__path__):
    importlib.import_module(f"gpucnn.ops.{module.name}")

OPS = [op for op in registry.declared().values() if op.__module__.startswith("gpucnn.")]
KERNELS = [] if MISSING else [kernel for op in OPS for kernel in registry.kernels(op, ("numba",)).values()]

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.mark.parametrize("kernel", KERNELS, ids=[f"{k.id}-{k.op.name}" for k in KERNELS])
def test_numba_kernel_compiles(kernel, request):
    launches = _launches(kernel)
    assert launches, "it launches nothing"
    for (function, signature), shapes in launches.items():
        threads = max(count for _, count in shapes)
        assert 0 < threads <= MOST_THREADS
        for grid, _ in shapes:
            assert all(0 < blocks <= most for blocks, most in zip(grid, MOST_BLOCKS, strict=False)), grid
        for cc in TARGETS:
            where = f"{function.name}, sm_{cc[0]}{cc[1]}"
            ptx, used = _assemble(function, signature, cc)
            told = f"{used.registers} registers, {used.shared} bytes of shared memory"
            request.node.user_properties.append((where, told))
            lines = [line for line in ptx.splitlines() if ".f64" in line]
            assert not lines, f"{where}: a float64 came in: {lines[0]}"
            assert used.shared <= MOST_SHARED, f"{where}: {used.shared} bytes of shared memory"
            assert used.spilled == 0, f"{where}: {used.spilled} bytes of registers are spilled"
            assert used.registers * threads <= REGISTERS_OF_A_MULTIPROCESSOR, f"{where}: no block of {threads} fits"


def test_a_float64_would_be_seen():
    from gpucnn.numba_cuda import numba_function

    @numba_function
    def doubled(y):
        y[0] = y[0] * 0.1

    ptx, used = _assemble(doubled, doubled.signature([np.empty(1, np.float32)]), (8, 0))
    assert ".f64" in ptx
    assert used.registers > 0
