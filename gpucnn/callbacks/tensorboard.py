"""Curves and histograms for TensorBoard, by the package tensorboardX."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from ..arguments import Count, Natural, PathLike
from ..errors import ArgumentError
from ..files import explained, make_folder
from .callback import Callback
from .kept import Kept


class TensorBoard(Callback):
    """Writes the logs for TensorBoard as Keras does: `epoch_loss`, `epoch_accuracy` … of the training
    into the folder train/, those of the validation, without `val_`, into validation/.

    histogram_freq          every so many epochs, a histogram of each weight; 0 for none
    write_graph             a table of the layers as text: a stack of layers has no other graph
    write_steps_per_second  also `epoch_steps_per_second`
    update_freq             "epoch"; "batch" or a number of batches to write `batch_loss` … as well

    Requires the extra `tensorboard`. Resumed training appends to the same folders.
    """

    writes: ClassVar[bool] = True

    def __init__(
        self,
        log_dir: PathLike = "logs",
        histogram_freq: Natural = 0,
        write_graph: bool = True,
        write_images: Annotated[Literal[False], "`gpucnn plot RUN` draws the filters"] = False,
        write_steps_per_second: bool = False,
        update_freq: Literal["epoch", "batch"] | Count = "epoch",
        profile_batch: Annotated[Literal[0], "`gpucnn bench train` measures steps"] = 0,
        embeddings_freq: Annotated[Literal[0], "gpucnn has no Embedding layer"] = 0,
        embeddings_metadata: Annotated[None, "gpucnn has no Embedding layer"] = None,
    ) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ArgumentError("TensorBoard needs tensorboardX: pip install 'gpucnn[tensorboard]'") from error
        self._new_writer = SummaryWriter
        self.log_dir = Path(log_dir)
        self.histogram_freq, self.write_graph = histogram_freq, write_graph
        self.write_steps_per_second = write_steps_per_second
        self._every = {"epoch": 0, "batch": 1}.get(str(update_freq)) if isinstance(update_freq, str) else update_freq
        self.each_batch = bool(self._every) or write_steps_per_second
        self._writers: dict[str, Any] = {}
        self._step = self._before = 0
        self._began = 0.0, 0

    def get_state(self) -> dict[str, Any]:
        """How many batches were trained, and before the epoch."""
        return {"step": self._step, "before": self._before}

    def set_state(self, state: dict[str, Any]) -> None:
        """Count on from there."""
        kept = Kept(self, state)
        self._step, self._before = kept.count("step"), kept.count("before")

    def on_train_begin(self, logs: Any = None) -> None:
        """Make the folder. Raises `FileError` if that is impossible."""
        self._step = self._before = 0
        with explained("make", self.log_dir):
            make_folder(self.log_dir)
        if self.write_graph:
            lines: list[str] = []
            self.model.summary(print_fn=lines.append)
            text = "\n".join(f"    {line}" for line in "\n".join(lines).splitlines())
            self._writer("train").add_text("model", text, 0)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock of the steps."""
        self._before = self._step
        self._began = time.perf_counter(), self._step

    def on_epoch_resume(self, epoch: int, logs: Any = None) -> None:
        """Start it anew for the rest of the epoch."""
        self._began = time.perf_counter(), self._step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write the logs of the batch if they are due."""
        before, self._step = self._step, self._before + batch + 1
        if self._every and self._step // self._every > before // self._every:
            self._write("train", {f"batch_{name}": value for name, value in (logs or {}).items()}, self._step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the logs of the epoch, and the histograms if they are due."""
        halves: dict[str, dict[str, Any]] = {"train": {}, "validation": {}}
        for name, value in (logs or {}).items():
            half = "validation" if name.startswith("val_") else "train"
            halves[half][f"epoch_{name.removeprefix('val_')}"] = value
        halves["train"].setdefault("epoch_learning_rate", float(self.model.optimizer.learning_rate))
        if self.write_steps_per_second:
            began, step = self._began
            halves["train"]["epoch_steps_per_second"] = (self._step - step) / (time.perf_counter() - began)
        for half, values in halves.items():
            self._write(half, values, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for layer in self.model.layers:
                for weight in layer.weights:
                    self._writer("train").add_histogram(f"{layer.name}/{weight.name}", weight.numpy(), epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _writer(self, half: str) -> Any:
        if half not in self._writers:
            suffix = f".{secrets.token_hex(4)}"  # a file that begins in the same second would be replaced
            self._writers[half] = self._new_writer(str(self.log_dir / half), filename_suffix=suffix)
        return self._writers[half]

    def _write(self, half: str, values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            if np.ndim(value) == 0:
                self._writer(half).add_scalar(name, float(value), step)
