"""What the commands do, as functions: train, resume, evaluate, predict, draw, find a model.

A run is described by `RunSettings`, which are kept in its `run.json`; so the folder alone is enough
to resume, evaluate, use or draw the run.
"""

from __future__ import annotations

import csv
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, utils
from ..datasets import Dataset, ProgressHook, images
from ..devices import choose, threads
from ..dispatch import choice
from ..dispatch.op import load as load_kernels
from ..errors import ArgumentError, DataError, FileError
from ..files import MODEL_SUFFIX, explained
from ..models import memory
from ..models.loading import load_model
from ..models.saving import weights_sha256
from ..models.sequential import Sequential
from ..models.summary import flops_per_image
from ..progress import say as announce
from . import self_check, zoo
from .run import Checkpoints, Run, stop_on_signals

Say = Callable[[str], None]
"""Takes one line on the progress of the work."""

_EVALUATION_BATCH = 256
"""Fixed, because the last digits of a test figure depend on how the images are cut into batches."""


@dataclass(frozen=True)
class RunSettings:
    """All that determines the result of a run, as JSON values; None takes the recipe's value.

    dataset      a name from `gpucnn.datasets`; with `data`, the name of those images
    data         the path of the user's images
    data_dir     where to look first for published data sets
    image_shape  "HxWxC", the size to which the image files of `data` are converted
    fingerprint  SHA-256 of all images and labels
    algorithms   op → algorithm of its kernels; for other ops it is chosen as usual
    load         paths of files with the user's kernels
    """

    dataset: str | None = None
    data: str | None = None
    data_dir: str | None = None
    image_shape: str | None = None
    model: str = zoo.DEFAULT
    optimizer: str | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    validation_split: float = 0.0
    seed: int = 0
    device: str = "auto"
    backend: str = "auto"
    algorithms: dict[str, str] | None = None
    load: list[str] | None = None
    precision: str = "float32"
    threads: int | None = None
    save_every: int | None = None
    classes: list[str] | None = None
    note: str | None = None
    fingerprint: str | None = None

    @classmethod
    def of(cls, run: Run) -> RunSettings:
        """The settings of a run. Raises `FileError` if this version does not know them."""
        unknown = sorted(set(run.settings) - {field.name for field in fields(cls)})
        if unknown or not run.settings.get("classes"):
            fault = ", ".join(unknown) or "no classes"
            raise FileError(f"{run.folder / 'run.json'} is damaged or of another version: {fault}")
        return cls(**run.settings)

    def load_data(self, progress: ProgressHook | None = None) -> Dataset:
        """Load the images. Raises `DataError` if they do not match the fingerprint."""
        name = None if self.data and self.fingerprint else self.dataset
        shape = None if self.image_shape is None else extents(self.image_shape)
        if shape and not self.data:
            raise ArgumentError(f"image_shape={self.image_shape} goes with a folder of images (--data): leave it out")
        data = datasets.load(name, self.data_dir, self.data, shape=shape, progress=progress)
        if self.fingerprint not in (None, _fingerprint(data)):
            raise DataError(f"{data.name} in {data.path} is not what the run was trained on: give the same files")
        return data

    def with_data_dir(self, data_dir: str | None) -> RunSettings:
        """The settings with another folder of data sets, unless `data_dir` is None."""
        return replace(self, data_dir=data_dir or self.data_dir)

    def apply(self) -> RunSettings:
        """Put seed, kernels, device and threads into use; returns settings with the actual device."""
        utils.set_random_seed(self.seed)
        for file in self.load or []:
            load_kernels(file)
        device = self_check.device(self.device, announce) if self.backend == "auto" else self.device
        choice.use(self.backend, device=device, **(self.algorithms or {}))
        threads.use(self.threads)
        return replace(self, device=choose.current().name)


def train(
    settings: RunSettings,
    folder: str | Path | None = None,
    *,
    pictures: bool = True,
    say: Say = lambda line: None,
    progress: ProgressHook | None = None,
) -> Run:
    """Train a model of the zoo, evaluate it once on the test images, and draw the pictures.

    folder    the run folder; None creates one below `runs/`
    progress  called while the data set is downloaded or decoded, as in `datasets.load`
    """
    settings = settings.apply()
    entry = zoo.find(settings.model)
    data = settings.load_data(progress)
    recipe = _recipe(settings, data)
    settings = replace(
        settings,
        dataset=data.name,
        model=entry.name,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        classes=list(data.classes),
        note=data.note,
        fingerprint=_fingerprint(data),
    )
    model = _new_model(settings, data)
    _check_memory(model, settings, data)
    run = Run.create(folder, asdict(settings))
    with run.locked():
        return _fit(run, settings, model, data, pictures, say)


def resume(
    folder: str | Path,
    epochs: int | None = None,
    *,
    pictures: bool = True,
    say: Say = lambda line: None,
    progress: ProgressHook | None = None,
) -> Run:
    """Resume a run from its last checkpoint with the same settings; only `epochs` may be changed.

    The resulting weights equal those of an uninterrupted run bit for bit.
    """
    run = Run.open(folder)
    with run.locked():
        settings = RunSettings.of(run)
        settings = replace(settings, epochs=epochs or settings.epochs)
        settings.apply()
        data = settings.load_data(progress)
        model = run.resume() or _new_model(settings, data)
        done, epochs = model.training_state.epoch, _recipe(settings, data).epochs
        if done > epochs or (done == epochs and run.record.get("status") == "finished"):
            raise ArgumentError(f"{run.folder} has already trained {done} epochs: give a larger number of epochs")
        _check_memory(model, settings, data)
        run.continue_with({"epochs": epochs})
        return _fit(run, settings, model, data, pictures, say)


def evaluate(
    folder: str | Path,
    dataset: str | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    *,
    progress: ProgressHook | None = None,
) -> dict[str, Any]:
    """Loss and accuracy of a run's model on the test images of its data set or of another one."""
    run = Run.open(folder)
    settings = RunSettings.of(run)
    settings.apply()
    model = load_model(run.model_file)
    if dataset or data:
        loaded = datasets.load(dataset, data_dir, data, shape=model.input_shape[1:], progress=progress)
    else:
        loaded = settings.with_data_dir(data_dir).load_data(progress)
    loss, accuracy = _test(model, scaled(loaded.x_test), loaded.y_test)
    return {
        "run": str(run.folder),
        "dataset": loaded.name,
        "model": settings.model,
        "images": len(loaded.x_test),
        "test_accuracy": accuracy,
        "test_loss": loss,
        "note": loaded.note,
        "weights_sha256": weights_sha256(model),
    }


def predict(
    folder: str | Path, paths: Sequence[str | Path], *, invert: bool = False, centre: bool = False
) -> dict[str, Any]:
    """The class of each image file and the probability of each class, by the run's model."""
    run = Run.open(folder)
    settings = RunSettings.of(run)
    settings.apply()
    model = load_model(run.model_file)
    x = np.stack([scaled(images.read(path, model.input_shape[1:], invert=invert, centre=centre)) for path in paths])
    names = settings.classes or []
    return {
        "run": str(run.folder),
        "dataset": settings.dataset,
        "model": settings.model,
        "note": settings.note,
        "predictions": [
            {
                "image": str(path),
                "class": names[int(row.argmax())],
                "probability": float(row.max()),
                "probabilities": {name: float(p) for name, p in zip(names, row, strict=True)},
            }
            for path, row in zip(paths, model.predict(x, verbose=0), strict=True)
        ],
    }


def draw(folder: str | Path, data_dir: str | None = None, *, progress: ProgressHook | None = None) -> list[Path]:
    """Draw all pictures of a run again; returns their paths."""
    run = Run.open(folder)
    settings = RunSettings.of(run)
    settings.apply()
    data = settings.with_data_dir(data_dir).load_data(progress)
    return _draw(run, settings, load_model(run.model_file), data, scaled(data.x_test))


def find_model(name: str, input_shape: str | None = None, classes: int | None = None) -> Sequential:
    """The model of a run folder or file, or a new one of the zoo for `input_shape` ("32x32x3")."""
    path = Path(name)
    if path.is_dir() or path.suffix == MODEL_SUFFIX:
        if input_shape or classes:
            raise ArgumentError(f"{name} is a trained model, whose input shape and classes are fixed: leave them out")
        return load_model(Run.open(path).model_file if path.is_dir() else path)
    return zoo.find(name).build(None if input_shape is None else extents(input_shape), classes)


def extents(shape: str) -> tuple[int, int, int]:
    """Parse "HxWxC" into (H, W, C). Raises `ArgumentError` for anything else."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", shape):
        raise ArgumentError(f"the shape {shape!r} must be height x width x channels, such as 28x28x1")
    height, width, channels = map(int, shape.split("x"))
    return height, width, channels


def describe(model: Sequential) -> dict[str, Any]:
    """Describe a built model as JSON values."""
    return {
        "model": model.name,
        "input_shape": list(model.input_shape[1:]),
        "parameters": model.count_params(),
        "trainable_parameters": sum(weight.size for weight in model.trainable_weights),
        "flops_per_image": flops_per_image(model),
        "layers": [
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "output_shape": list((layer.output_shape or ())[1:]),
                "parameters": layer.count_params(),
                "flops_per_image": layer.flops(layer.input_shape or ()),
            }
            for layer in model.layers
        ],
    }


def scaled(x: np.ndarray) -> np.ndarray:
    """Convert uint8 of 0 … 255 to float32 of 0 … 1; float32 is returned as it is."""
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


def _recipe(settings: RunSettings, data: Dataset) -> zoo.Recipe:
    recipe = zoo.find(settings.model).recipe_for(data.name)
    return recipe.altered(settings.optimizer, settings.learning_rate, settings.batch_size, settings.epochs)


def _new_model(settings: RunSettings, data: Dataset) -> Sequential:
    recipe = _recipe(settings, data)
    model = zoo.find(settings.model).build(data.x_train.shape[1:], len(data.classes))
    model.compile(recipe.make_optimizer(), recipe.loss, metrics=["accuracy"])
    return model


def _check_memory(model: Sequential, settings: RunSettings, data: Dataset) -> None:
    as_float32 = sum(4 * x.size for x in (data.x_train, data.x_test) if x.dtype == np.uint8)
    memory.check(model, min(_recipe(settings, data).batch_size, len(data.x_train)), as_float32)


def _fit(run: Run, settings: RunSettings, model: Sequential, data: Dataset, pictures: bool, say: Say) -> Run:
    recipe = _recipe(settings, data)
    say(f"{data.name}: {len(data.x_train):,} training and {len(data.x_test):,} test images{noted(data.note)}")
    epochs = "epoch" if recipe.epochs == 1 else "epochs"
    say(
        f"{settings.model}: {model.count_params():,} parameters, {type(model.optimizer).__name__}, "
        f"batch {recipe.batch_size}, {recipe.epochs} {epochs}, seed {settings.seed}; "
        f"{settings.device}, {choice.backend()} kernels, threads: {threads.in_use()}"
    )
    x_train, x_test = scaled(data.x_train), scaled(data.x_test)
    count = int(len(x_train) * (1.0 - settings.validation_split))
    before, start = int(model.optimizer.iterations[0]), time.perf_counter()
    with stop_on_signals() as stop:
        history = model.fit(
            x_train,
            data.y_train,
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            validation_split=settings.validation_split,
            callbacks=[Checkpoints(run, settings.save_every, stop)],
        )
    seconds = time.perf_counter() - start
    steps = int(model.optimizer.iterations[0]) - before
    trained = steps / -(-count // recipe.batch_size) * count
    loss, accuracy = _test(model, x_test, data.y_test)
    run.finish(
        model,
        {
            "backend": choice.backend(),
            "seconds": seconds,
            "images_per_second": trained / seconds if steps else None,
            "train_accuracy": history.history["accuracy"][-1],
            "test_accuracy": accuracy,
            "test_loss": loss,
        },
    )
    if pictures:
        _draw(run, settings, model, data, x_test)
    return run


def _test(model: Sequential, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    logs = model.evaluate(x, y, batch_size=_EVALUATION_BATCH, verbose=0, return_dict=True)
    return logs["loss"], logs["accuracy"]


def _draw(run: Run, settings: RunSettings, model: Sequential, data: Dataset, x_test: np.ndarray) -> list[Path]:
    from ..callbacks import curves
    from . import plots

    title, note = f"{settings.model} on {data.name}", data.note or ""
    probabilities = model.predict(x_test, batch_size=_EVALUATION_BATCH, verbose=0)
    pictures = {
        "learning_curves": curves.learning_curves(_history(run), title, note),
        "confusion_matrix": plots.confusion_matrix(data.y_test, probabilities, data.classes, title, note),
        "predictions": plots.predictions(x_test, data.y_test, probabilities, data.classes, title, note),
        "filters": plots.filters(model, f"{title}: filters of the first convolution", note),
        "feature_maps": plots.feature_maps(model, x_test[0], f"{title}: feature maps", note),
    }
    folder = run.folder / "pictures"
    with explained("make", folder):
        folder.mkdir(exist_ok=True)
    return [picture.save(folder / f"{name}.png") for name, picture in pictures.items()]


def _history(run: Run) -> dict[str, list[float]]:
    path = run.folder / "history.csv"
    with explained("read", path), open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
    except (IndexError, ValueError, TypeError) as error:
        raise FileError(f"{path} is damaged: {error}") from error


def _fingerprint(data: Dataset) -> str:
    sha256 = hashlib.sha256()
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        sha256.update(f"{array.dtype}{array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def noted(note: str | None) -> str:
    """The note of a data set in parentheses, to be printed after a figure."""
    return f" ({note})" if note else ""
