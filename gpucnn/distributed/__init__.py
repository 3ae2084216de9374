"""Several processes that train one model together, started by `mpiexec`.

    from gpucnn import distributed

    distributed.start()   # in a program that is run by: mpiexec -n 4 python program.py
    model.fit(...)        # as in one process; batch_size counts the images of all processes

Each batch is cut into contiguous parts, by default one for each process. The processes add up the
gradients of the parts in their order and make the same update. Rank 0 alone prints and writes.
"""

from .group import (
    MAY_PASS,
    TIME_LIMIT,
    Group,
    RankError,
    SilentRankError,
    alone,
    check_device,
    ending_together,
    exit_status,
    group,
    launched,
    leads,
    parts,
    start,
    stop,
)

__all__ = [
    "MAY_PASS",
    "TIME_LIMIT",
    "Group",
    "RankError",
    "SilentRankError",
    "alone",
    "check_device",
    "ending_together",
    "exit_status",
    "group",
    "launched",
    "leads",
    "parts",
    "start",
    "stop",
]
