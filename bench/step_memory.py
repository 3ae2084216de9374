"""The peak memory of a training step, measured in a new process: Linux only.

    python bench/step_memory.py slides torch

prints bytes: how much more memory the process holds at most during three steps than after as many
steps on a batch of two samples, so that libraries and compilers do not count. Neither do images to
predict: the inputs hold one.
"""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
from pathlib import Path


def peak_of_step(model: str, contender: str) -> int:
    """Bytes, measured in a new process."""
    command = [sys.executable, __file__, model, contender]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _status(field: str) -> int:
    """A field of this process' status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def measure(model: str, contender: str) -> int:
    """Bytes, measured in this process."""
    from model_kinds import KINDS
    from rival_loops import MAKERS, Problem, prepare

    from gpucnn.devices import threads

    prepare(threads.available(), [contender])
    kind = KINDS[model]
    small = MAKERS[contender](Problem(dataclasses.replace(kind, batch_size=2), dropout=True, count=1)).step
    assert small is not None
    for _ in range(4):  # gpucnn records the third
        small()
    del small
    gc.collect()
    before = _status("VmRSS")
    step = MAKERS[contender](Problem(kind, dropout=True, count=1)).step
    assert step is not None
    step()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(3):
        step()
    return _status("VmHWM") - before


if __name__ == "__main__":
    print(measure(*sys.argv[1:]))
