"""How often a callback saves: by epochs, or each so many batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError


def checked_frequency(owner: str, save_freq: Any) -> Any:
    """`save_freq`, if it is "epoch" or a number of batches."""
    whole = isinstance(save_freq, (int, np.integer)) and not isinstance(save_freq, bool) and save_freq > 0
    if save_freq != "epoch" and not whole:
        raise ArgumentError(f"{owner}(save_freq={save_freq!r}) must be 'epoch' or a number of batches")
    return save_freq


class BatchCounter:
    """Counts batches across epochs, also when some are not reported one by one."""

    def __init__(self) -> None:
        self._last = -1
        self._since = 0

    def passed(self, batch: int, count: int) -> bool:
        """Whether `count` batches have passed since this last was True; `batch` is the one just trained."""
        self._since += batch - self._last if batch > self._last else batch + 1
        self._last = batch
        if self._since < count:
            return False
        self._since = 0
        return True
