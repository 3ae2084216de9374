"""What the commands of the shell do, as functions: from a name to a trained run, and from a run to its figures.

A run is described by `Settings`, which stand in its `run.json`; so it can be resumed, evaluated, used and drawn by its
folder alone.
"""

from __future__ import annotations

import csv
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import datasets, utils
from ..datasets import images
from ..devices import choose, threads
from ..dispatch import registry
from ..errors import ArgumentError, DataError, FileError
from ..files import MODEL_SUFFIX, explained
from ..models import memory
from ..models.loading import load_model
from ..models.saving import weights_sha256
from ..models.summary import flops_per_image
from . import zoo
from .run import Checkpoints, Run, stop_on_signals

if TYPE_CHECKING:
    from ..datasets import Dataset, Progress
    from ..models.sequential import Sequential

Say = Callable[[str], None]
"""Takes a line on what is going on."""

_EVALUATION_BATCH = 256
"""Part of what a test figure means: its last digits depend on how the images are cut into batches."""


@dataclass(frozen=True)
class Settings:
    """All that decides how a run ends, as JSON values. What is None is taken from the recipe of the model.

    dataset      a name of `gpucnn.datasets`; with `data`, the name that those images have
    data         the path of the user's own images
    data_dir     where to look first for the data sets that have names
    image_shape  "HxWxC" to which the image files of `data` are brought
    fingerprint  SHA-256 over all images and labels
    algorithms   by op, the kernels' algorithm; what is not named is chosen as usual
    load         paths of files with kernels of the user's own
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
    def of(cls, run: Run) -> Settings:
        """The settings that a run was started with. Raises `FileError` if they are not those of this version."""
        unknown = sorted(set(run.settings) - {field.name for field in fields(cls)})
        if unknown or not run.settings.get("classes"):
            odd = ", ".join(unknown) or "no classes"
            raise FileError(f"{run.folder / 'run.json'} is damaged or of another version: {odd}")
        return cls(**run.settings)

    def load_data(self, progress: Progress | None = None) -> Dataset:
        """The images. Raises `DataError` if they are not those of the fingerprint."""
        name = None if self.data and self.fingerprint else self.dataset
        shape = None if self.image_shape is None else extents(self.image_shape)
        if shape and not self.data:
            raise ArgumentError(f"image_shape={self.image_shape} goes with a folder of images (--data): leave it out")
        data = datasets.load(name, self.data_dir, self.data, shape=shape, progress=progress)
        if self.fingerprint not in (None, _fingerprint(data)):
            raise DataError(f"{data.name} in {data.path} is not what the run was trained on: give the same files")
        return data

    def moved(self, data_dir: str | None) -> Settings:
        """The settings with another place to look for the data set, where one is given."""
        return replace(self, data_dir=data_dir or self.data_dir)

    def apply(self) -> Settings:
        """Make seed, device, backend and threads the ones in use; returns the settings with the device resolved."""
        utils.set_random_seed(self.seed)
        for file in self.load or []:
            registry.load(file)
        registry.use(self.backend, device=self.device, **(self.algorithms or {}))
        threads.use(self.threads)
        return replace(self, device=choose.current().name)


def train(
    settings: Settings,
    folder: Any = None,
    *,
    pictures: bool = True,
    say: Say = lambda line: None,
    progress: Progress | None = None,
) -> Run:
    """Train a model of the zoo from the beginning, evaluate it once on the test images, draw the pictures.

    folder    the run folder; None makes one below `runs/`
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
    folder: Any,
    epochs: int | None = None,
    *,
    pictures: bool = True,
    say: Say = lambda line: None,
    progress: Progress | None = None,
) -> Run:
    """Go on with a run where its last checkpoint stands, with all its settings; `epochs` may be changed.

    The weights end bit-equal to those of a run that was never stopped.
    """
    run = Run.open(folder)
    with run.locked():
        settings = Settings.of(run)
        settings = replace(settings, epochs=epochs or settings.epochs)
        settings.apply()
        data = settings.load_data(progress)
        model = run.resume() or _new_model(settings, data)
        done, wanted = model.training_state.epoch, _recipe(settings, data).epochs
        if done > wanted or (done == wanted and run.record.get("status") == "finished"):
            raise ArgumentError(f"{run.folder} has {done} epochs behind it: give a larger number of epochs to go on")
        _check_memory(model, settings, data)
        run.continue_with({"epochs": wanted})
        return _fit(run, settings, model, data, pictures, say)


def evaluate(
    folder: Any,
    dataset: str | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Loss and accuracy of a run's model on the test images, of its own data set unless another is given."""
    run = Run.open(folder)
    settings = Settings.of(run)
    settings.apply()
    model = load_model(run.model_file)
    if dataset or data:
        loaded = datasets.load(dataset, data_dir, data, shape=model.input_shape[1:], progress=progress)
    else:
        loaded = settings.moved(data_dir).load_data(progress)
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


def predict(folder: Any, paths: Sequence[Any], *, invert: bool = False, centre: bool = False) -> dict[str, Any]:
    """The class of each image file and how sure the run's model is of each class."""
    run = Run.open(folder)
    settings = Settings.of(run)
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


def draw(folder: Any, data_dir: str | None = None, *, progress: Progress | None = None) -> list[Path]:
    """Draw all pictures of a run anew; returns where they are."""
    run = Run.open(folder)
    settings = Settings.of(run)
    settings.apply()
    data = settings.moved(data_dir).load_data(progress)
    return _draw(run, settings, load_model(run.model_file), data, scaled(data.x_test))


def find_model(name: str, input_shape: str | None = None, classes: int | None = None) -> Sequential:
    """A model of the zoo, for images of `input_shape` ("32x32x3") if given, or that of a run folder or a file."""
    path = Path(name)
    if path.is_dir() or path.suffix == MODEL_SUFFIX:
        if input_shape or classes:
            raise ArgumentError(f"{name} is a trained model, whose input shape and classes are fixed: leave them out")
        return load_model(Run.open(path).model_file if path.is_dir() else path)
    return zoo.find(name).build(None if input_shape is None else extents(input_shape), classes)


def extents(shape: str) -> tuple[int, int, int]:
    """(H, W, C) of "HxWxC". Raises `ArgumentError` for anything else."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", shape):
        raise ArgumentError(f"the shape {shape!r} must be height x width x channels, such as 28x28x1")
    height, width, channels = map(int, shape.split("x"))
    return height, width, channels


def describe(model: Sequential) -> dict[str, Any]:
    """A built model as JSON values."""
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
    """uint8 of 0 … 255 as float32 of 0 … 1; float32 as it is."""
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


def _recipe(settings: Settings, data: Dataset) -> zoo.Recipe:
    recipe = zoo.find(settings.model).recipe_for(data.name)
    return recipe.altered(settings.optimizer, settings.learning_rate, settings.batch_size, settings.epochs)


def _new_model(settings: Settings, data: Dataset) -> Sequential:
    recipe = _recipe(settings, data)
    model = zoo.find(settings.model).build(data.x_train.shape[1:], len(data.classes))
    model.compile(recipe.make_optimizer(), recipe.loss, metrics=["accuracy"])
    return model


def _check_memory(model: Sequential, settings: Settings, data: Dataset) -> None:
    to_come = sum(4 * x.size for x in (data.x_train, data.x_test) if x.dtype == np.uint8)
    memory.check(model, min(_recipe(settings, data).batch_size, len(data.x_train)), to_come)


def _fit(run: Run, settings: Settings, model: Sequential, data: Dataset, pictures: bool, say: Say) -> Run:
    recipe = _recipe(settings, data)
    say(f"{data.name}: {len(data.x_train):,} training and {len(data.x_test):,} test images{noted(data.note)}")
    epochs = "epoch" if recipe.epochs == 1 else "epochs"
    say(
        f"{settings.model}: {model.count_params():,} parameters, {type(model.optimizer).__name__}, "
        f"batch {recipe.batch_size}, {recipe.epochs} {epochs}, seed {settings.seed}; "
        f"{settings.device}, {registry.backend()} kernels, threads: {threads.in_use()}"
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
            "backend": registry.backend(),
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


def _draw(run: Run, settings: Settings, model: Sequential, data: Dataset, x_test: np.ndarray) -> list[Path]:
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
    """The note of a data set as it follows a figure."""
    return f" ({note})" if note else ""
