"""What a recording computes from weights alone: once, and again only after a weight has changed.

A convolution reads its filters in panels or as Winograd's transforms, and a BatchNormalization is folded
into them. For one image this takes as long as a third of the convolutions. Nothing tells when a weight
changes, since it is an array that users may write into. So all weights are compared, bit by bit, with
copies of what they were: that reads twice as many bytes as the weights have, where computing anew reads
and writes up to eight times as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numba import types

from . import cpu
from .packed_tasks import pointer_to
from .team import tasks

_CHUNK = 1 << 13
"""Numbers that are compared at a time."""

_TOGETHER = 1 << 15
"""Numbers from which on a second thread is worth while."""

_NUMBER = np.dtype(np.int32)


class Preparation:
    """The arrays that a recording prepares.

    most_bytes  they and the copies of the weights take less memory than this
    owns        whether an array lies in memory that other arrays of the recording may have, too
    computes    whether each repetition may write into an array
    """

    def __init__(
        self, most_bytes: float, owns: Callable[[np.ndarray], bool], computes: Callable[[np.ndarray], bool]
    ) -> None:
        self._left, self._owns, self._computes = most_bytes, owns, computes
        self._results: list[np.ndarray] = []
        self._sources: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._changed = np.zeros(1, np.int64)

    def admit(self, result: np.ndarray, sources: Iterable[np.ndarray | None]) -> np.ndarray | None:
        """The array to prepare in place of `result`, which may be `result` itself; None if it is to be
        computed in each repetition: there is too little memory, or it follows from something else than
        weights. The sources are copied as they are now."""
        new = [s for s in sources if s is not None and not any(np.may_share_memory(s, one) for one in self._results)]
        own = self._owns(result)
        needed = sum(s.nbytes for s in new if _key(s) not in self._sources) + own * result.nbytes
        if needed >= self._left or not all(map(self._is_weight, new)):
            return None
        self._left -= needed
        for source in new:
            self._sources.setdefault(_key(source), (source, source.copy()))
        if own:
            with cpu.allocating_from(None):
                result = cpu.CPU.allocate(result.shape, result.dtype)
        self._results.append(result)
        return result

    def _is_weight(self, source: np.ndarray) -> bool:
        whole = source.flags.c_contiguous and source.nbytes % _NUMBER.itemsize == 0
        return whole and not self._computes(source)

    def compare(self) -> None:
        """Launch what finds out whether a weight differs from its copy; what differs is copied."""
        each = _NUMBER.itemsize
        chunks = [
            (source.ctypes.data + first, copy.ctypes.data + first, min(_CHUNK, (source.nbytes - first) // each))
            for source, copy in self._sources.values()
            for first in range(0, source.nbytes, _CHUNK * each)
        ]
        table = np.array(chunks, np.int64).reshape(-1, 3)
        _compare(len(table), table, self._changed, parallel=int(table[:, 2].sum()) > _TOGETHER)

    def __bool__(self) -> bool:
        return bool(self._sources)

    @property
    def changed(self) -> bool:
        """Whether a weight has differed since `done`."""
        return bool(self._changed[0])

    def done(self) -> None:
        """All has been computed from the weights as they were compared."""
        self._changed[0] = 0


def _key(array: np.ndarray) -> tuple[int, int]:
    return array.ctypes.data, array.nbytes


_numbers_at = pointer_to(types.int32)


@tasks
def _compare(i, table, changed):
    """One chunk of a weight: its address, that of its copy, and how many numbers."""
    source, copy, count = _numbers_at(table[i, 0]), _numbers_at(table[i, 1]), table[i, 2]
    differs = 0
    for k in range(count):
        differs |= source[k] ^ copy[k]
    if differs:
        changed[0] = 1
        for k in range(count):
            copy[k] = source[k]
