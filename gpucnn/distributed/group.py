"""The processes of one training: their ranks, their parts of a batch, and what they exchange.

All exchange is by messages between two ranks that are waited for up to a time limit, so that a rank
which no longer answers is known by its number. mpi4py is imported only where processes were started
by an MPI launcher.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

import numpy as np

from .. import progress
from ..arguments import Bounds, Count, checked
from ..devices import choose, storage
from ..devices.cpu import CPU
from ..errors import ArgumentError, GpucnnError, printable
from .gpu_sums import GpuSums

_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""What Open MPI, MPICH and its relatives, and Slurm's srun put into the environment."""

TIME_LIMIT = 300.0
"""Seconds that ranks wait for another: more than compiling all kernels takes."""

Seconds = Annotated[float, Bounds(0.1, 86_400.0)]

MAY_PASS = 75
"""The exit status of a training that ends because a rank does not answer or memory is short: another start may
succeed (EX_TEMPFAIL of sysexits.h)."""

_AFTER_RANK_0 = 2.0
"""Seconds in which rank 0 may report an error that all ranks have, before another rank does."""


Messages = Sequence[tuple[int, np.ndarray, int]]
"""Each with the rank at the other end, and a tag that tells messages between two ranks apart."""


class RankError(GpucnnError, RuntimeError):
    """A rank does not do the same as the others."""


class SilentRankError(RankError):
    """A rank does not answer."""

    exit_status = MAY_PASS


class Group:
    """The processes that train one model together.

    rank, size  the number of this process, counted from 0, and how many there are
    parts       how many parts a batch is cut into
    is_ordered  whether sums must run in the order of the parts: their number was given
    time_limit  seconds to wait for another rank
    """

    def __init__(self, comm: Any, parts: int | None, time_limit: float) -> None:
        self._comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        self.parts = parts or self.size
        self.time_limit = time_limit
        self._bounds = [rank * self.parts // self.size for rank in range(self.size + 1)]
        self._arrays: dict[str, np.ndarray] = {}
        self.is_ordered = parts is not None
        self._places = [""] * self.size
        names = self.gather_text(f"pid {os.getpid()} on {socket.gethostname()}")
        self._places = [f" ({name})" for name in names]
        self._hosts = [name.partition(" on ")[2] for name in names]

    # -- how a batch is divided ----------------------------------------------------------------------------------------

    def cuts(self, rows: int) -> list[list[slice]]:
        """The parts of a batch of so many rows, for each rank; parts without rows are left out."""
        ends = [part * rows // self.parts for part in range(self.parts + 1)]
        parts = [slice(start, stop) for start, stop in pairwise(ends)]
        return [
            [part for part in parts[first:last] if part.stop > part.start] for first, last in pairwise(self._bounds)
        ]

    def own_rows(self, rows: int) -> slice:
        """The rows of a batch that this rank computes."""
        return slice(*(self._bounds[self.rank + i] * rows // self.parts for i in (0, 1)))

    # -- what the ranks exchange ---------------------------------------------------------------------------------------

    def gather(self, own: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """The rows of all ranks, one rank after the other.

        own   (rows[rank], …), of one dtype and inner shape on all ranks
        rows  how many each rank has
        →     (sum of rows, …)
        """
        whole = np.empty((sum(rows), *own.shape[1:]), own.dtype)
        ends = np.cumsum([0, *rows])
        own = np.ascontiguousarray(own)
        self._exchange([own] * self.size, [whole[start:stop] for start, stop in pairwise(ends)])
        return whole

    def all_reduce(self, rows: Sequence[np.ndarray], counts: Sequence[int], out: np.ndarray) -> None:
        """Write the sum of the rows of all ranks, ((row 0 + row 1) + row 2) + …, the same bits on every rank.

        The ranks divide the columns: each adds up one range of them, then they exchange the sums. So
        the result depends on the rows alone, not on how many ranks have them. It differs from the
        exact sum of n rows by at most (n - 1) · 2⁻²⁴ · Σ |row|, to first order. Each rank sends and
        receives 2 · (size - 1) / size times the bytes of a row if it has one.

        rows    the rows of this rank, each (columns,) float32
        counts  how many rows each rank has, one at least in all
        out     (columns,) float32; may be one of `rows`

        On a GPU, where each rank has one row at most and `out` is that row, NCCL adds up; without it, the
        host does.
        """
        if not isinstance(out, np.ndarray):
            self._all_reduce_on_device(rows, counts, out)
            return
        ends = [rank * out.size // self.size for rank in range(self.size + 1)]
        ranges = [slice(start, stop) for start, stop in pairwise(ends)]
        mine = ranges[self.rank]
        width, own = mine.stop - mine.start, list(self._rows_of(counts, self.rank))
        received = self._scratch("rows", (sum(counts) - len(own), width))
        others = [row for row in range(sum(counts)) if row not in own]
        places = dict(zip(others, received, strict=True))
        self._transfer(
            [(rank, row[ranges[rank]], tag) for rank in self._others() for tag, row in enumerate(rows)],
            [
                (rank, places[row], tag)
                for rank in self._others()
                for tag, row in enumerate(self._rows_of(counts, rank))
            ],
        )
        places |= {place: row[mine] for place, row in zip(own, rows, strict=True)}
        total = self._scratch("total", (width,))
        total[...] = places[0]
        for row in range(1, sum(counts)):
            total += places[row]
        out[mine] = total
        sums = [(rank, out[ranges[rank]], 0) for rank in self._others()]
        self._transfer([(rank, total, 0) for rank in self._others()], sums)

    def _all_reduce_on_device(self, rows: Sequence[Any], counts: Sequence[int], out: Any) -> None:
        if not rows:
            out[...] = 0
        if self.gpu_sums.missing is None:
            with self.gpu_sums.watched():
                self.gpu_sums.add_up([out])
            return
        host = storage.get(out)
        self.all_reduce([host][: len(rows)], counts, host)
        storage.write(out, host)

    @cached_property
    def gpu_sums(self) -> GpuSums:
        """Sums over the GPUs of all ranks. All must ask for it at the same time."""
        return GpuSums(self)

    @property
    def gpu(self) -> int:
        """The number of the GPU of this rank: its number among the ranks of its machine, or 0 where the launcher
        shows each of them another GPU. All ranks must ask for it."""
        visible = self.gather_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        here = [rank for rank, host in enumerate(self._hosts) if host == self._hosts[self.rank]]
        shown = {visible[rank] for rank in here}
        return 0 if len(shown) == len(here) and "" not in shown else here.index(self.rank)

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """Rank 0's array, on every rank; all give one of its shape and dtype."""
        return self.gather(array if self.rank == 0 else array[:0], [len(array), *[0] * (self.size - 1)])

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.gather(np.zeros(1, np.uint8), [1] * self.size)

    def gather_text(self, text: str, limit: int = 512) -> list[str]:
        """A text of each rank, cut off after `limit` bytes."""
        own = np.frombuffer(text.encode()[:limit].ljust(limit, b"\0"), np.uint8)
        rows = self.gather(own[None], [1] * self.size)
        return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]

    def compare(self, **digests: str) -> None:
        """Raise `RankError` on all ranks unless all have the same digests; the names say of what."""
        for name, digest in digests.items():
            first, *others = self.gather_text(digest)
            for rank, other in enumerate(others, 1):
                if other != first:
                    what = name.replace("_", " ")
                    raise RankError(
                        f"rank {rank}{self._places[rank]} has {what} {other[:16]}, and rank 0{self._places[0]} "
                        f"{first[:16]}: give all processes the same"
                    )

    def _exchange(self, outgoing: Sequence[np.ndarray], incoming: Sequence[np.ndarray]) -> None:
        """Send an array to each rank, and fill an array from each. Raises `RankError` after the time
        limit."""
        incoming[self.rank][...] = outgoing[self.rank]
        self._transfer(
            [(rank, outgoing[rank], 0) for rank in self._others()],
            [(rank, incoming[rank], 0) for rank in self._others()],
        )

    def _transfer(self, outgoing: Messages, incoming: Messages) -> None:
        """Send and receive at the same time; empty arrays are left out."""
        receiving = [(rank, self._comm.Irecv(array, rank, tag)) for rank, array, tag in incoming if array.size]
        sending = [(rank, self._comm.Isend(array, rank, tag)) for rank, array, tag in outgoing if array.size]
        for requests in (receiving, sending):
            self._wait(requests)

    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    @staticmethod
    def _rows_of(counts: Sequence[int], rank: int) -> range:
        """The numbers of a rank's rows among the rows of all."""
        first = sum(counts[:rank])
        return range(first, first + counts[rank])

    def _scratch(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array that is used again in each step: new memory of many megabytes costs more than adding it up."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape:
            array = self._arrays[name] = np.empty(shape, np.float32)
        return array

    def _wait(self, requests: list[tuple[int, Any]]) -> None:
        began, pause = time.monotonic(), 0.0
        while requests := [(rank, request) for rank, request in requests if not request.Test()]:
            if time.monotonic() - began > self.time_limit:
                raise self.silence({rank for rank, _ in requests})
            time.sleep(pause)
            pause = min(pause + 1e-6, 1e-3)

    def silence(self, ranks: Collection[int]) -> SilentRankError:
        """The error for ranks that do not answer."""
        late = ", ".join(f"rank {rank}{self._places[rank]}" for rank in sorted(ranks))
        return SilentRankError(
            f"no answer from {late} for {self.time_limit:g} s: it is stopped, or waits for memory, a disk or the "
            "network; the job ends"
        )

    def another(self) -> Any:
        """A communicator of the same ranks for messages of another thread. All ranks must ask for it."""
        return self._comm.Dup()

    def end(self, error: BaseException) -> None:
        """Report an error and end the processes of all ranks."""
        message = f"gpucnn: error: {error}"
        if self.rank:
            time.sleep(_AFTER_RANK_0)
            message = f"{message} (rank {self.rank})"
        print(printable(message), file=sys.stderr, flush=True)
        self.abort(exit_status(error))

    def abort(self, status: int = 1) -> None:
        """End the processes of all ranks."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if self._comm is None:
            sys.exit(status)
        self._comm.Abort(status)


_group: Group | None = None


def group() -> Group | None:
    """The group of this process; None if it trains alone."""
    return _group


def leads() -> bool:
    """Whether this process prints and writes: rank 0, or one that trains alone."""
    return _group is None or _group.rank == 0


def parts() -> int | None:
    """Into how many parts batches are cut; None for a process that trains alone."""
    return None if _group is None else _group.parts


def launched() -> int:
    """How many processes an MPI launcher says it has started; 1 without one."""
    sizes = [os.environ.get(name, "") for name in _LAUNCHERS]
    return max([1, *(int(size) for size in sizes if size.isdigit())])


@checked
def start(parts: Count | None = None, time_limit: Seconds = TIME_LIMIT) -> Group:
    """Join the processes that `mpiexec` started into the group that trains from now on.

    parts       how many parts each batch is cut into; None for one a process. For the same number
                of parts, any number of processes up to it gives the same result bit for bit, one
                process included.
    time_limit  seconds after which a rank that does not answer ends the job

    From then on, an error that ends one process ends all. Raises `ArgumentError` without mpi4py, or
    if its MPI is not the one of `mpiexec`.
    """
    global _group
    if _group is not None:
        raise ArgumentError("distributed.start() was called before: call it once")
    _group = Group(_world(launched()), parts, float(time_limit))
    if _group.rank:
        progress.silence()
    if _group.size > 1:
        sys.excepthook = _end_all
    if _group.parts < _group.size:
        raise ArgumentError(
            f"{_group.size} processes cannot share batches of {_group.parts} parts: start at most {_group.parts}"
        )
    return _group


def stop() -> None:
    """Train alone again. All ranks must call it."""
    global _group
    if _group is not None and _group.size > 1:
        sys.excepthook = sys.__excepthook__
    _group = None


@contextmanager
def alone() -> Iterator[None]:
    """This process trains alone in the body of a with statement, whatever the other ranks do."""
    global _group
    group, _group = _group, None
    try:
        yield
    finally:
        _group = group


def check_device() -> None:
    """Raise `ArgumentError` if the device in use cannot compute a part of a batch: on GPUs, there is one part for
    each process."""
    if _group is None or choose.current() is CPU:
        return
    name = choose.current().name
    if not name.startswith("gpu"):
        raise ArgumentError(f"several processes, or parts of a batch, train on the CPU or on GPUs, not on {name}")
    if _group.parts != _group.size:
        raise ArgumentError(
            f"on {name}, each of {_group.size} processes computes one part of a batch, not {_group.parts} parts in "
            "all: leave out --parts, or give --device cpu"
        )


def device_of_rank(name: str) -> str:
    """The device of this rank for `name`: with several processes, "gpu" and "auto" are the GPU that
    `Group.gpu` names, and "auto" the CPU where there is none. Raises `ArgumentError` for too few GPUs."""
    if _group is None or _group.size == 1 or name not in ("auto", "gpu"):
        return name
    number, (count, reason) = _group.gpu, choose.gpu_state()
    if name == "auto" and not count:
        return "cpu"
    if number >= max(count, 1):
        raise ArgumentError(
            f"rank {_group.rank} would compute on gpu:{number}, and this machine has {count} ({reason}): start one "
            "process for each GPU, or give --device cpu"
        )
    return f"gpu:{number}"


@contextmanager
def ending_together() -> Iterator[None]:
    """End all ranks when an error of gpucnn's, or a request to stop, leaves the body of a with statement:
    the others would wait for this one. Rank 0 reports an error that all have. After it, this process trains
    alone again."""
    try:
        yield
    except (GpucnnError, OSError, MemoryError, KeyboardInterrupt) as error:
        if _group is None or _group.size == 1:
            raise
        _group.end(error)
    finally:
        stop()


def exit_status(error: BaseException) -> int:
    """That of a process which an error ends: 2 for wrong arguments, `MAY_PASS` or 1."""
    if isinstance(error, MemoryError):
        return MAY_PASS
    return getattr(error, "exit_status", 2 if isinstance(error, ArgumentError) else 1)


def _end_all(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """The hook for errors that end a process: end those of the other ranks as well."""
    assert _group is not None
    if _group.rank:
        time.sleep(_AFTER_RANK_0)
        print(f"rank {_group.rank}:", file=sys.stderr)
    sys.__excepthook__(kind, error, traceback)
    _group.abort(exit_status(error))


def _world(processes: int) -> Any:
    """The communicator of all processes; None for one alone."""
    if processes == 1:
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is mpi4py, and no MPI library
        raise ArgumentError(
            f"{processes} processes were started to train together, and mpi4py cannot be used ({error}): "
            "pip install 'gpucnn[mpi]'"
        ) from error
    if MPI.COMM_WORLD.Get_size() != processes:
        raise ArgumentError(
            f"mpiexec started {processes} processes, and mpi4py sees {MPI.COMM_WORLD.Get_size()}: it uses another MPI; "
            "use the mpiexec of the same installation"
        )
    return MPI.COMM_WORLD.Dup()
