"""What recorded steps compare their outputs with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..devices import storage
from ..losses import Loss, reduce
from ..losses.loss import RowLoss, reduce_each
from .batches import Arrays, Batch


def row_loss(loss: Loss) -> RowLoss:
    """The loss itself, or the one that it has chosen by the shape of the labels."""
    loss = getattr(loss, "chosen", loss)
    assert isinstance(loss, RowLoss)
    return loss


class Targets:
    """The labels of all samples as a loss takes them, on the device."""

    def __init__(self, loss: Loss, data: Arrays, output_shape: tuple[Any, ...]) -> None:
        assert data.y is not None
        self.loss = row_loss(loss)
        self.weighted = data.weight is not None
        self._rows, self._width = math.prod(output_shape[1:-1]), output_shape[-1]
        targets = self._of(data)
        self._shape = targets.shape[1:]
        self.all = storage.put(targets.reshape(len(data.x), -1))
        """A row for each sample."""

    def replace(self, data: Arrays) -> None:
        """Take the labels of other samples."""
        storage.write(self.all, self._of(data).reshape(self.all.shape))

    def _of(self, data: Arrays) -> np.ndarray:
        """The labels as the loss takes them, for each row of the outputs."""
        return self.loss.targets(np.asarray(data.y), (len(data.x) * self._rows, self._width))

    def reduced(self, losses: np.ndarray, batches: list[Batch]) -> list[float]:
        """The losses of batches of which each has left (rows, …); only the last one may have fewer rows."""
        reduction = self.loss.reduction
        if self.weighted:
            rows = zip(losses, batches, strict=True)
            return [float(reduce(values[: len(b.x)], b.weight, reduction)[0]) for values, b in rows]
        last = losses[-1:, : len(batches[-1].x)]
        return [*reduce_each(losses[:-1], reduction), *reduce_each(last, reduction)]

    def by_output(self, labels: Any) -> Any:
        """Rows of `all`, one for each row of outputs."""
        return labels.reshape(-1, *self._shape)

    def losses(self, outputs: Any, labels: Any) -> tuple[Any, Any]:
        """The losses of a batch, one for each row of its outputs (rows, …, K), and their gradient; labels
        are rows of `all`."""
        return self.loss.of_rows(outputs.reshape(-1, outputs.shape[-1]), self.by_output(labels))
