"""Values that a device copies to the host after its launches so far, while later ones are queued."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Fetch:
    """Copies of arrays of a device as they are after the launches so far; here made at once."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._values = [array.get() for array in arrays]

    def wait(self) -> list[np.ndarray]:
        """The copies, once the device has made them."""
        return self._values
