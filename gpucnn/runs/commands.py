"""What the commands do, as functions: train, resume, evaluate, predict, draw, find a model.

A run is described by `RunSettings`, which are kept in its `run.json`; so the folder alone is enough
to evaluate, use or draw the run, and to resume it unless it was trained with kernels of the user.
"""

from __future__ import annotations

import csv
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from ..datasets import Dataset, ProgressHook, image_files, images
from ..devices import threads
from ..dispatch import choice
from ..errors import ArgumentError, DataError, FileError, one_line, printable
from ..files import MODEL_SUFFIX, check_regular, explained
from ..models import memory
from ..models.loading import load_model
from ..models.saving import weights_sha256
from ..models.sequential import Sequential
from ..models.signature import Signature
from ..models.summary import flops_per_image
from . import own_kernels, zoo
from .run import Checkpoints, Run, stop_on_signals
from .settings import RunSettings, extents, fingerprint

Say = Callable[[str], None]
"""Takes one line on the progress of the work."""

_EVALUATION_BATCH = 256
"""Fixed, because the last digits of a test figure depend on how the images are cut into batches."""


def train(
    settings: RunSettings,
    folder: str | Path | None = None,
    *,
    load: Sequence[str | Path] = (),
    pictures: bool = True,
    say: Say = lambda line: None,
    progress: ProgressHook | None = None,
) -> Run:
    """Train a model of the zoo, evaluate it once on the test images, and draw the pictures.

    folder    the run folder; None creates one below `runs/`
    load      .py files with your kernels, which are executed
    progress  called while the data set is downloaded or decoded, as in `datasets.load`
    """
    settings = replace(settings, load=own_kernels.load_for_new_run(load)).apply()
    entry = zoo.find(settings.model)
    data = settings.load_data(progress)
    if settings.validation_split and data.x_val is not None:
        raise ArgumentError(
            f"{data.path} has its own validation images: leave out --validation-split {settings.validation_split:g}"
        )
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
        fingerprint=fingerprint(data),
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
    load: Sequence[str | Path] = (),
    pictures: bool = True,
    say: Say = lambda line: None,
    progress: ProgressHook | None = None,
) -> Run:
    """Resume a run from its last checkpoint with the same settings; only `epochs` may be changed.

    The resulting weights equal those of an uninterrupted run bit for bit. A run that was trained
    with kernels of the user needs their files again in `load`; files with another SHA-256 are
    refused.
    """
    run = Run.open(folder)
    with run.locked():
        settings = RunSettings.of(run)
        kernels = own_kernels.load_again(run.folder, settings.load or [], load)
        settings = replace(settings, epochs=epochs or settings.epochs, load=kernels)
        settings.apply()
        data = settings.load_data(progress)
        model = run.resume()
        if model is None:
            model = _new_model(settings, data)
        model.signature = model.signature or _signature_for(data)
        _checked_signature(model, settings, run.folder)
        done, epochs = model.training_state.epoch, _recipe(settings, data).epochs
        if done > epochs or (done == epochs and run.record.get("status") == "finished"):
            raise ArgumentError(f"{run.folder} has already trained {done} epochs: give a larger number of epochs")
        _check_memory(model, settings, data)
        run.continue_with({"epochs": epochs, "load": kernels})
        return _fit(run, settings, model, data, pictures, say)


def evaluate(
    folder: str | Path,
    dataset: str | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    *,
    common_classes: bool = False,
    share: float | None = None,
    strict: bool = False,
    progress: ProgressHook | None = None,
) -> dict[str, Any]:
    """Loss and accuracy of a run's model on the test images of its data set or on other images.

    dataset         a published data set, of which the test images are used
    data            a folder of images, all of which are used (those of test/ if it has one), or an
                    .npz file with x_test and y_test
    common_classes  leave out images of classes that the run does not know
    share           only a fixed random share of each class in the folder `data`
    strict          raise the error of a broken image in `data`; otherwise it is left out

    Classes are matched by their names. Raises `DataError` if they are not those of the run, unless
    `common_classes`.
    """
    if data is None and (share is not None or strict):
        raise ArgumentError("a share of the images and strict reading go with a folder of images (--data)")
    run = Run.open(folder)
    settings = RunSettings.of(run)
    settings.apply()
    model, signature = _trained(run, settings)
    if data is not None:
        if dataset is not None:
            raise ArgumentError(f"both the data set {dataset!r} and data={data!r} are given: give one of them")
        _warn_if_trained_on(settings, data)
        test = datasets.load_to_test(data, shape=signature.image_shape, strict=strict, share=share, progress=progress)
    elif dataset is not None:
        test = datasets.load(dataset, data_dir, progress=progress).test
    else:
        test = settings.with_data_dir(data_dir).load_data(progress).test
    matched = test.with_classes_of(signature.classes, common_classes)
    loss, accuracy = _test(model, signature.scaled(matched.x), matched.y)
    return {
        "run": str(run.folder),
        "dataset": test.name,
        "model": settings.model,
        "images": len(matched.x),
        "left_out": len(test.x) - len(matched.x),
        "tested_on": test.origin,
        "test_accuracy": accuracy,
        "test_loss": loss,
        "note": test.note,
        "weights_sha256": weights_sha256(model),
    }


def predict(
    folder: str | Path, paths: Sequence[str | Path], *, invert: bool | None = None, centre: bool | None = None
) -> dict[str, Any]:
    """The class of each image file and the probability of each class, by the run's model.

    paths           image files, and folders, of which all image files are taken
    invert, centre  how the images are prepared; None as the model says

    Images that cannot be read are in `failed`, each with its error.
    """
    run = Run.open(folder)
    settings = RunSettings.of(run)
    settings.apply()
    model, signature = _trained(run, settings)
    invert = signature.invert if invert is None else invert
    centre = signature.centre if centre is None else centre
    predictions: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    files = [file for path in paths for file in _image_files(Path(path), failed)]
    for start in range(0, len(files), _EVALUATION_BATCH):
        batch: list[tuple[Path, np.ndarray]] = []
        for file in files[start : start + _EVALUATION_BATCH]:
            try:
                pixels = images.read(file, signature.image_shape, invert=invert, centre=centre)
                batch.append((file, signature.scaled(pixels)))
            except (DataError, FileError) as error:
                failed.append({"image": str(file), "error": str(error)})
        if batch:
            rows = model.predict(np.stack([x for _, x in batch]), verbose=0)
            predictions += [_prediction(file, row, signature.classes) for (file, _), row in zip(batch, rows)]
    return {
        "run": str(run.folder),
        "dataset": settings.dataset,
        "model": settings.model,
        "note": settings.note,
        "predictions": predictions,
        "failed": failed,
    }


def _prediction(file: Path, row: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "image": str(file),
        "class": classes[int(row.argmax())],
        "probability": float(row.max()),
        "probabilities": {name: float(p) for name, p in zip(classes, row, strict=True)},
    }


def draw(folder: str | Path, data_dir: str | None = None, *, progress: ProgressHook | None = None) -> list[Path]:
    """Draw all pictures of a run again; returns their paths."""
    run = Run.open(folder)
    settings = RunSettings.of(run)
    settings.apply()
    model, signature = _trained(run, settings)
    data = settings.with_data_dir(data_dir).load_data(progress)
    return _draw(run, settings, model, data, signature.scaled(data.x_test))


def find_model(name: str, input_shape: str | None = None, classes: int | None = None) -> Sequential:
    """The model of a run folder or file, or a new one of the zoo for `input_shape` ("32x32x3")."""
    path = Path(name)
    if path.is_dir() or path.suffix == MODEL_SUFFIX:
        if input_shape or classes:
            raise ArgumentError(f"{name} is a trained model, whose input shape and classes are fixed: leave them out")
        return load_model(Run.open(path).model_file if path.is_dir() else path)
    return zoo.find(name).build(None if input_shape is None else extents(input_shape), classes)


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


def _recipe(settings: RunSettings, data: Dataset) -> zoo.Recipe:
    recipe = zoo.find(settings.model).recipe_for(data.name)
    return recipe.altered(settings.optimizer, settings.learning_rate, settings.batch_size, settings.epochs)


def _new_model(settings: RunSettings, data: Dataset) -> Sequential:
    recipe = _recipe(settings, data)
    model = zoo.find(settings.model).build(data.x_train.shape[1:], len(data.classes))
    model.compile(recipe.make_optimizer(), recipe.loss, metrics=["accuracy"])
    model.signature = _signature_for(data)
    return model


def _signature_for(data: Dataset) -> Signature:
    x = data.x_train
    floats_of_another_range = x.dtype != np.uint8 and not (x.min() >= 0 and x.max() <= 1)
    height, width, channels = x.shape[1:]
    return Signature(data.classes, (height, width, channels), divisor=None if floats_of_another_range else 255.0)


def _trained(run: Run, settings: RunSettings) -> tuple[Sequential, Signature]:
    """The model of a run and its signature."""
    path = run.model_file
    model = load_model(path)
    return model, _checked_signature(model, settings, path)


def _checked_signature(model: Sequential, settings: RunSettings, path: Path) -> Signature:
    """The signature of a model; a file of an earlier version has none, and `run.json` knows the
    classes.

    Raises `FileError` if the two do not agree.
    """
    try:
        signature = model.signature or Signature(settings.classes or [], model.input_shape[1:])
        signature.check_fits(model.input_shape, model.output_shape)
    except ArgumentError as error:
        raise FileError(f"{path} does not fit run.json: {error}") from error
    if settings.classes != signature.classes:
        named = [", ".join(names or []) for names in (settings.classes, signature.classes)]
        raise FileError(f"{path} does not fit run.json: the classes are {named[1]}, and {named[0]} in run.json")
    return signature


def _image_files(path: Path, failed: list[dict[str, str]]) -> list[Path]:
    """The image files that a path names; those that a folder holds, with a warning about its others."""
    if not path.is_dir():
        return [path]
    files = image_files.images_below(path)
    if not files:
        failed.append({"image": str(path), "error": f"{path} holds no {images.KINDS} images"})
    left_out = image_files.LeftOut(path)
    left_out.add_unused(set(files))
    for message in left_out.warnings():
        warnings.warn(message, stacklevel=4)
    return files


def _warn_if_trained_on(settings: RunSettings, data: str) -> None:
    here, trained_on = (os.path.realpath(os.path.expanduser(path)) for path in (data, settings.data or ""))
    if settings.data is not None and here == trained_on:
        warnings.warn(
            f"{data} holds the images that the run was trained on: without --data, only its test images are used",
            stacklevel=4,
        )


def _check_memory(model: Sequential, settings: RunSettings, data: Dataset) -> None:
    parts = (data.x_train, data.x_test, data.x_val)
    as_float32 = sum(4 * x.size for x in parts if x is not None and x.dtype == np.uint8)
    memory.check(model, min(_recipe(settings, data).batch_size, len(data.x_train)), as_float32)


def _fit(run: Run, settings: RunSettings, model: Sequential, data: Dataset, pictures: bool, say: Say) -> Run:
    recipe = _recipe(settings, data)
    say(_described(data))
    epochs = "epoch" if recipe.epochs == 1 else "epochs"
    say(
        f"{settings.model}: {model.count_params():,} parameters, {type(model.optimizer).__name__}, "
        f"batch {recipe.batch_size}, {recipe.epochs} {epochs}, seed {settings.seed}; "
        f"{settings.device}, {choice.backend()} kernels, threads: {threads.in_use()}"
    )
    signature = model.signature
    assert signature is not None
    x_train, x_test = signature.scaled(data.x_train), signature.scaled(data.x_test)
    validation = None if data.x_val is None else (signature.scaled(data.x_val), data.y_val)
    count = int(len(x_train) * (1.0 - settings.validation_split))
    before, start = int(model.optimizer.iterations[0]), time.perf_counter()
    with stop_on_signals() as stop:
        history = model.fit(
            x_train,
            data.y_train,
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            validation_split=settings.validation_split,
            validation_data=validation,
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
    try:
        with explained("read", path):
            check_regular(path)
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        return {printable(name): [float(row[name]) for row in rows if row[name]] for name in rows[0]}
    except (IndexError, ValueError, TypeError, csv.Error) as error:
        raise FileError(f"{path} is damaged: {one_line(error)}") from error


def _described(data: Dataset) -> str:
    """How many images there are and how they were divided, in one line."""
    counts = [("training", data.x_train), ("validation", data.x_val), ("test", data.x_test)]
    *parts, last = [f"{len(x):,} {part}" for part, x in counts if x is not None]
    note = "; ".join(remark for remark in (data.split, data.note) if remark)
    return f"{data.name}: {', '.join(parts)} and {last} images{noted(note)}"


def noted(note: str | None) -> str:
    """The note of a data set in parentheses, to be printed after a figure."""
    return f" ({note})" if note else ""
