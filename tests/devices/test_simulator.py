"""Numba's simulator: chosen when a process starts, so its tests run in a separate process."""

import os
import re
import subprocess
import sys

import numba
import pytest
from places import ROOT

from gpucnn.devices import choose
from gpucnn.errors import KernelError

not_in_the_simulator = pytest.mark.skipif(bool(numba.config.ENABLE_CUDASIM), reason="this process is in the simulator")


@not_in_the_simulator
def test_numba_kernels_run_in_the_simulator():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-rs",
            str(ROOT / "tests" / "devices" / "simulator"),
        ],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed and int(passed[1]) > 0, done.stdout + done.stderr


@not_in_the_simulator
def test_simulator_cannot_be_chosen_later():
    with pytest.raises(KernelError, match="NUMBA_ENABLE_CUDASIM=1"):
        choose.use("simulator")
