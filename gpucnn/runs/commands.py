"""What the commands do, as functions: train, resume, evaluate, predict, draw, find a model.

A run is described by `RunSettings`, which are kept in its `run.json`; so the folder alone is enough
to evaluate, use or draw the run, and to resume it unless it was trained with kernels or a model of
the user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import distributed
from ..callbacks import Callback, EarlyStopping, TensorBoard
from ..datasets import Dataset, ProgressHook, images
from ..devices import choose, free_memory, threads
from ..dispatch import choice
from ..errors import ArgumentError, warn
from ..files import MODEL_SUFFIX
from ..models import formats, memory
from ..models.loading import load_model
from ..models.sequential import Sequential
from ..models.signature import Signature
from ..models.summary import flops_per_image
from . import augmentation, division, drawing, own_kernels, own_model, recipes, zoo
from .filters import with_filters
from .run import Checkpoints, Run, stop_on_signals
from .settings import RunSettings, extents, fingerprint
from .trained_run import TrainedRun, checked_signature, images_in, probabilities_of, test_figures
from .training import Training

Entry = zoo.Entry | own_model.OwnModel
"""What builds a model and knows how it is trained."""

Say = Callable[[str], None]
"""Takes one line on the progress of the work."""


def train(
    settings: RunSettings,
    folder: str | Path | None = None,
    *,
    load: Sequence[str | Path] = (),
    pictures: bool = True,
    tensorboard: bool = False,
    say: Say = lambda line: None,
    progress: ProgressHook | None = None,
) -> Run:
    """Train a model, evaluate it once on the test images, and draw the pictures.

    settings  its `model` is a name of the zoo, or FILE.py:FUNCTION, which is executed
    folder    the run folder; None creates one below `runs/`
    load      .py files with your kernels, which are executed
    tensorboard
              also write `tensorboard/` in the run folder, for TensorBoard
    progress  called while the data set is downloaded or decoded, as in `datasets.load`
    """
    if settings.parts not in (None, distributed.parts()):
        raise ArgumentError(f"parts={settings.parts}: call distributed.start(parts={settings.parts}) first")
    board = TensorBoard() if tensorboard else None
    settings = replace(settings, load=own_kernels.load_for_new_run(load), parts=distributed.parts()).apply()
    settings, entry = with_entry(settings)
    data = settings.load_data(progress)
    settings, training, model = planned(settings, entry, data)
    _check_memory(model, training, data)
    run = Run.create(folder, asdict(settings)) if distributed.leads() else Run.followed(folder, asdict(settings))
    with run.locked():
        return _fit(run, settings, training, model, data, pictures, say, board)


def with_entry(settings: RunSettings) -> tuple[RunSettings, Entry | None]:
    """The settings with what their recipe says, and the model that they name, of which a file of the
    user is executed; None if the data set decides."""
    for option, known in (("recipe", [recipe.name for recipe in recipes.RECIPES]), ("model", zoo.names())):
        if settings.dataset in known:
            raise ArgumentError(
                f"{settings.dataset!r} is not a data set: for the {option} of this name write "
                f"{option}={settings.dataset!r} (--{option} {settings.dataset})"
            )
    if settings.recipe is not None:
        settings = recipes.find(settings.recipe).fill(settings)
    if settings.model is None:
        return settings, None
    return settings, own_model.load(settings.model) if own_model.is_file(settings.model) else zoo.find(settings.model)


def planned(settings: RunSettings, entry: Entry | None, data: Dataset) -> tuple[RunSettings, Training, Sequential]:
    """All settings of a new run on these data, how it trains, and its model with initial weights.

    Raises the error of the first setting that does not fit.
    """
    division.check(settings, data)
    entry = entry or zoo.default_for(data.name)
    training = _training(settings, entry, data)
    settings = replace(
        settings,
        dataset=data.name,
        model=entry.name,
        model_sha256=entry.sha256 if isinstance(entry, own_model.OwnModel) else None,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        epochs=training.epochs,
        validation_split=settings.validation_split or 0.0,
        best=bool(settings.best),
        flip=bool(settings.flip),
        classes=list(data.classes),
        note=data.note,
        fingerprint=settings.fingerprint or fingerprint(data),
        stream=division.is_stored(data) if settings.data else None,
    )
    return settings, training, _new_model(settings, entry, data)


def resume(
    folder: str | Path,
    epochs: int | None = None,
    *,
    model: str | None = None,
    load: Sequence[str | Path] = (),
    pictures: bool = True,
    tensorboard: bool = False,
    say: Say = lambda line: None,
    progress: ProgressHook | None = None,
) -> Run:
    """Resume a run from its last checkpoint with the same settings; only `epochs` may be changed.

    The resulting weights equal those of an uninterrupted run bit for bit. A run that was trained
    with kernels of the user needs their files again in `load`, and one of the user's own model its
    FILE.py:FUNCTION in `model`; files with another SHA-256 are refused.
    """
    run, board = Run.open(folder), TensorBoard() if tensorboard else None
    with run.locked():
        settings = RunSettings.of(run)
        planned_epochs = settings.epochs
        kernels = own_kernels.load_again(run.folder, settings.load or [], load)
        settings = replace(settings, epochs=epochs or settings.epochs, load=kernels)
        settings.apply()
        entry = _entry_again(run, settings, model)
        data = settings.load_data(progress)
        training = _training(settings, entry, data)
        if training.epochs != planned_epochs and training.schedule not in (None, "constant"):
            raise ArgumentError(
                f"the learning rates of {run.folder} fall over its {planned_epochs} epochs (schedule "
                f"{training.schedule}): resume it without --epochs, or train anew with more"
            )
        trained = run.resume() or _new_model(settings, entry, data)
        trained.signature = trained.signature or _signature_for(data)
        checked_signature(trained, settings, run.folder)
        done = trained.training_state.epoch
        if done > training.epochs or (done == training.epochs and run.record.get("status") == "finished"):
            raise ArgumentError(f"{run.folder} has already trained {done} epochs: give a larger number of epochs")
        _check_memory(trained, training, data)
        run.continue_with({"epochs": training.epochs, "load": kernels, "parts": distributed.parts()})
        return _fit(run, settings, training, trained, data, pictures, say, board)


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
    if data is not None and dataset is not None:
        raise ArgumentError(f"both the data set {dataset!r} and data={data!r} are given: give one of them")
    used = in_use(folder)
    return used.evaluate(
        data,
        dataset=dataset,
        data_dir=data_dir,
        common_classes=common_classes,
        share=share,
        strict=strict,
        progress=progress,
    )


def predict(
    folder: str | Path, paths: Sequence[str | Path], *, invert: bool | None = None, centre: bool | None = None
) -> dict[str, Any]:
    """The class of each image file and the probability of each class, by the run's model.

    paths           image files, and folders, of which all image files are taken
    invert, centre  how the images are prepared; None as the model says

    Images that cannot be read are in `failed`, each with its error.
    """
    used = in_use(folder)
    files: list[Path] = []
    failed: list[dict[str, str]] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        inside, left_out = images_in(path)
        files += inside
        if not inside:
            failed.append({"image": str(path), "error": f"{path} holds no {images.KINDS} images"})
        for message in left_out.warnings():
            warn(message)
    predictions, failures = used.predict_each(files, invert, centre)
    return {
        "run": str(used.folder),
        "dataset": used.settings.dataset,
        "model": used.settings.model,
        "note": used.settings.note,
        "predictions": [
            {
                "image": str(prediction.image),
                "class": prediction.class_name,
                "probability": prediction.probability,
                "probabilities": prediction.probabilities,
            }
            for prediction in predictions
        ],
        "failed": failed + [{"image": str(file), "error": str(error)} for file, error in failures],
    }


def in_use(folder: str | Path) -> TrainedRun:
    """The run in a folder, with its seed, kernels, device and threads in use."""
    run = Run.open(folder)
    settings = RunSettings.of(run)
    settings.apply()
    return TrainedRun(run, settings)


def draw(folder: str | Path, data_dir: str | None = None, *, progress: ProgressHook | None = None) -> list[Path]:
    """Draw all pictures of a run again; returns their paths."""
    used = in_use(folder)
    data = used.settings.with_data_dir(data_dir).load_data(progress)
    x_test = used.signature.scaled(data.x_test)
    return drawing.save(used.run, used.model, data, x_test, probabilities_of(used.model, x_test))


def find_model(name: str, input_shape: str | None = None, classes: int | None = None) -> Sequential:
    """The model of a run folder or file, or a new one of the zoo for `input_shape` ("32x32x3")."""
    path = Path(name)
    if path.is_dir() or path.suffix == MODEL_SUFFIX or formats.find(path) is not None:
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


def _entry_again(run: Run, settings: RunSettings, model: str | None) -> Entry:
    """The model with which a run was trained; one of the user's own as the user names it again."""
    if own_model.is_file(settings.model or ""):
        return own_model.load_again(run.folder, str(settings.model), settings.model_sha256, model)
    if model is not None:
        raise ArgumentError(f"{run.folder} was trained with the model {settings.model}: leave out --model {model}")
    return zoo.find(str(settings.model))


def _training(settings: RunSettings, entry: Entry, data: Dataset) -> Training:
    default = recipes.find(settings.recipe).training if settings.recipe else entry.training_for(data.name)
    return default.altered(
        settings.optimizer,
        settings.learning_rate,
        settings.batch_size,
        settings.epochs,
        settings.weight_decay,
        settings.schedule,
    )


def _new_model(settings: RunSettings, entry: Entry, data: Dataset) -> Sequential:
    training = _training(settings, entry, data)
    largest = 1.0 if data.x_train.dtype == np.uint8 else float(data.x_train.max())
    built = entry.build(data.x_train.shape[1:], len(data.classes))
    model = augmentation.in_front(
        built if settings.filters is None else with_filters(built, settings.filters),
        augmentation.layers(settings.augment, bool(settings.flip), largest),
    )
    steps = training.epochs * -(-_images_per_epoch(settings, data) // training.batch_size)
    optimizer = training.make_optimizer(steps)
    model.compile(optimizer, training.loss, metrics=["accuracy"], precision=settings.precision)  # type: ignore[arg-type]
    model.signature = _signature_for(data)
    return model


def _images_per_epoch(settings: RunSettings, data: Dataset) -> int:
    return int(len(data.x_train) * (1.0 - (settings.validation_split or 0.0)))


def _signature_for(data: Dataset) -> Signature:
    x = data.x_train
    floats_of_another_range = x.dtype != np.uint8 and not (x.min() >= 0 and x.max() <= 1)
    height, width, channels = x.shape[1:]
    return Signature(data.classes, (height, width, channels), divisor=None if floats_of_another_range else 255.0)


def _check_memory(model: Sequential, training: Training, data: Dataset) -> None:
    parts = (None if division.is_stored(data) else data.x_train, data.x_test, data.x_val)
    as_float32 = sum(4 * x.size for x in parts if x is not None and x.dtype == np.uint8)
    group, rows = distributed.group(), min(training.batch_size, len(data.x_train))
    memory.check(model, rows if group is None else -(-rows // group.parts), as_float32)


def _fit(
    run: Run,
    settings: RunSettings,
    training: Training,
    model: Sequential,
    data: Dataset,
    pictures: bool,
    say: Say,
    board: TensorBoard | None,
) -> Run:
    count = _images_per_epoch(settings, data)
    data = division.with_validation(data, count, settings.seed)
    say(division.described(data))
    epochs = "epoch" if training.epochs == 1 else "epochs"
    say(
        f"{settings.model}: {model.count_params():,} parameters, {type(model.optimizer).__name__}, "
        f"batch {training.batch_size}, {training.epochs} {epochs}, seed {settings.seed}; "
        f"{choose.with_card()}, {choice.backend()} kernels, threads: {threads.in_use()}"
    )
    is_new = int(model.optimizer.iterations[0]) == 0
    if hint := training.warning(training.epochs * -(-count // training.batch_size)):
        say(hint)
    if settings.data and is_new and (hint := augmentation.suggestion(model, data)):
        say(hint)
    signature = model.signature
    assert signature is not None
    x_train, x_test = signature.scaled(data.x_train), signature.scaled(data.x_test)
    validation = None if data.x_val is None else (signature.scaled(data.x_val), data.y_val)
    stopping = EarlyStopping(
        patience=settings.early_stopping or training.epochs + 1, verbose=1, restore_best_weights=bool(settings.best)
    )
    watching: list[Callback] = [stopping] if settings.early_stopping or settings.best else []
    if board is not None:
        board.log_dir = run.folder / "tensorboard"
        watching.append(board)
    before, start = int(model.optimizer.iterations[0]), time.perf_counter()
    with stop_on_signals() as stop:
        history = model.fit(
            x_train,
            data.y_train,
            batch_size=training.batch_size,
            epochs=training.epochs,
            validation_data=validation,
            callbacks=[*watching, Checkpoints(run, settings.save_every, stop)],
        )
    if not distributed.leads():
        return run
    seconds = time.perf_counter() - start
    steps = int(model.optimizer.iterations[0]) - before
    trained = steps / -(-count // training.batch_size) * count
    probabilities = probabilities_of(model, x_test)
    run.finish(
        model,
        {
            "backend": choice.backend(),
            "threads": threads.in_use(),
            "seconds": seconds,
            "images_per_second": trained / seconds if steps else None,
            "peak_device_bytes": choose.current().peak_bytes(),
            "peak_host_bytes": free_memory.peak(),
            "train_accuracy": history.history["accuracy"][-1],
            "epochs_trained": len(history.epoch),
            "best_epoch": stopping.best_epoch + 1 if settings.best else None,
            **test_figures(model, x_test, data.y_test, data.classes, probabilities),
        },
    )
    if pictures:
        say("drawing the pictures")
        drawing.save(run, model, data, x_test, probabilities)
    return run
