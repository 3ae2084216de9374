"""Programs in a process of their own."""

import os
import subprocess
import sys
import textwrap

from places import ROOT


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
