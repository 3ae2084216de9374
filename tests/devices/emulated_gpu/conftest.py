"""Scripts on the emulated GPU, each in a process of its own."""

import os
import subprocess
import sys
import textwrap

import needs
import pytest
from places import ROOT

from gpucnn.devices.emulator import driver
from gpucnn.devices.emulator.driver import build
from gpucnn.errors import KernelError


@pytest.fixture(scope="session")
def built():
    """The emulated GPU is built; without a network for the first time, tests of it are skipped."""
    try:
        build.prepare()
    except KernelError as error:
        if build.NOT_FETCHED not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def emulated(built):
    """A function that runs a script as `gpucnn emulate-gpu` does, with the settings of a `Session`: the finished
    process."""

    def run(text, variables=None, **settings):
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = driver.environment(driver.Session(**settings), {**os.environ, "PYTHONPATH": path})
        command = [sys.executable, "-c", textwrap.dedent(text)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=600, env={**environment, **(variables or {})}
        )

    return run


@pytest.fixture(scope="session")
def output(emulated):
    """The same for scripts that must succeed: the lines that they print."""

    def run(text, variables=None, **settings):
        done = emulated(text, variables, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    return run


def pytest_collection_modifyitems(items):
    """All of this folder need the emulated GPU."""
    for item in items:
        if item.path.parent.name == "emulated_gpu" and "without" not in item.name:
            item.add_marker(needs.emulated_gpu_here)
