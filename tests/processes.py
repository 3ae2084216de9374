"""Programs in a process of their own."""

import os
import shutil
import subprocess
import sys
import textwrap

from places import ROOT


def mpiexec():
    """The mpiexec next to this Python, else that of the system; None without one."""
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    return beside if os.access(beside, os.X_OK) else shutil.which("mpiexec")


def settings_of_ranks():
    """An environment in which mpiexec starts any number of processes, for any user."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMPI_ALLOW_RUN_AS_ROOT": "1"}
    settings |= {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    return settings | {"PRTE_MCA_hwloc_default_binding_policy": "none"}


def ranks(count, *command, path=None, **extra):
    """Start Python with these arguments in so many processes of MPI, on any number of cores.

    path  a test whose folder and the folder of all tests are on the path of imports
    """
    settings = settings_of_ranks()
    if path is not None:
        settings["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.path.dirname(path)])
    return subprocess.Popen(
        [mpiexec(), "-n", str(count), sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=settings,
        **extra,
    )


def program(text, *, timeout=600, cwd=ROOT, **environment):
    """Run a Python program in a new process; an environment variable of None is removed."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env={name: value for name, value in settings.items() if value is not None},
    )
