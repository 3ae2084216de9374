"""A trained run in a program of one's own: its model, what it says of images, and how often it is right.

>>> run = gpucnn.load_run("pets")
>>> print(run.predict("photo.png"))
cat (97.3 %)
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from ..arguments import is_array, numbers
from ..datasets import ImageSet, ProgressHook, image_files, images
from ..errors import ArgumentError, DataError, FileError, warn
from ..metrics.report import count_confusions, scores_of
from ..models.loading import load_model
from ..models.saving import weights_sha256
from ..models.sequential import Sequential
from ..models.signature import Signature
from .run import Run
from .settings import RunSettings

EVALUATION_BATCH = 256
"""Fixed, because the last digits of a test figure depend on how the images are cut into batches."""

Failure = tuple[Any, DataError | FileError]
"""An image that cannot be read, and the reason."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    class_name     the most probable class
    probability    its probability, 0 … 1
    probabilities  those of all classes by name, in the order of the model
    image          the path of the image; None if it did not come from a path
    """

    class_name: str
    probability: float
    probabilities: dict[str, float]
    image: Path | None = None

    def __str__(self) -> str:
        return f"{self.class_name} ({self.probability:.1%})".replace("%", " %")


def _on_host(images: Any) -> Any:
    """Arrays of other libraries as NumPy's; anything else as it is."""
    return numbers("images", images) if is_array(images) else images


class TrainedRun:
    """A run with its trained model; `load_run` makes it.

    It computes with the device and the backend in use (`gpucnn.use`), not with those of the run.
    """

    def __init__(self, run: Run, settings: RunSettings, custom_objects: dict[str, type] | None = None) -> None:
        self.run, self.settings = run, settings
        path = run.model_file
        self.model: Sequential = load_model(path, custom_objects)
        self.signature = checked_signature(self.model, settings, path)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.folder

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the model's outputs."""
        return list(self.signature.classes)

    @property
    def history(self) -> dict[str, list[float]]:
        """Loss and metrics of each epoch by name, and `epoch`, from 1."""
        return self.run.read_history()

    def centring(self, centre: bool) -> bool | images.Centring:
        """How images are centred, if they are: as the digits that the model was trained on."""
        name = self.settings.dataset
        if not centre or self.settings.data or name not in datasets.names():
            return centre
        return datasets.centring(name) or True

    def predict(self, images: Any, *, invert: bool | None = None, centre: bool | None = None) -> Any:
        """The `Prediction` for one image, or a list of them for several.

        images          one image: a path, an open binary file, a Pillow image, or an array (H, W, C)
                        or (H, W). Several: a list of these, a folder, or an array (n, H, W, C) or
                        (n, H, W), also of PyTorch, JAX or CuPy. uint8 arrays hold 0 … 255 and are
                        resized; floats are what the model takes, in its size.
        invert, centre  how the images are prepared; None as the model says

        Raises `DataError` or `FileError` for an image that cannot be used. Of a folder, such images
        are left out, and a warning counts them.
        """
        left_out = None
        images = _on_host(images)
        if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
            sources, left_out = images_in(Path(images))
            if not sources:
                raise DataError(f"{images} holds no {datasets.images.KINDS} images")
        elif isinstance(images, (list, tuple)):
            sources = [_on_host(image) for image in images]
        else:
            sources = list(images) if self._is_batch(images) else [images]
        several = left_out is not None or len(sources) != 1 or sources[0] is not images
        predictions, failed = self.predict_each(sources, invert, centre)
        for source, error in failed:
            if left_out is None:
                raise error
            left_out.add_broken(source, error)
        for message in left_out.warnings() if left_out else []:
            warn(message)
        return predictions if several else predictions[0]

    def predict_each(
        self, sources: Sequence[Any], invert: bool | None = None, centre: bool | None = None
    ) -> tuple[list[Prediction], list[Failure]]:
        """The predictions for the images that can be used, in their order, and the other images.

        sources  images as in `predict`, without lists, folders and arrays of several images
        """
        signature = self.signature
        invert = signature.invert if invert is None else invert
        centred = self.centring(signature.centre if centre is None else centre)
        predictions: list[Prediction] = []
        failed: list[Failure] = []
        for start in range(0, len(sources), EVALUATION_BATCH):
            batch: list[tuple[Any, np.ndarray]] = []
            for source in sources[start : start + EVALUATION_BATCH]:
                try:
                    pixels = images.read(source, signature.image_shape, invert=invert, centre=centred)
                    batch.append((source, signature.scaled(pixels)))
                except (DataError, FileError) as error:
                    failed.append((source, error))
            if batch:
                rows = self.model.predict(np.stack([x for _, x in batch]), verbose=0)
                predictions += [self._prediction(source, row) for (source, _), row in zip(batch, rows)]
        return predictions, failed

    def _is_batch(self, images: Any) -> bool:
        """Whether this is an array of several images: (n, H, W, C), or (n, H, W) for grey ones."""
        if not isinstance(images, np.ndarray):
            return False
        return images.ndim == 4 or (images.ndim == 3 and images.shape[2] not in (1, 3, self.signature.image_shape[2]))

    def _prediction(self, source: Any, row: np.ndarray) -> Prediction:
        probabilities = {name: float(p) for name, p in zip(self.classes, row, strict=True)}
        path = Path(source) if isinstance(source, (str, os.PathLike)) else None
        return Prediction(self.classes[int(row.argmax())], float(row.max()), probabilities, path)

    def evaluate(
        self,
        images: str | os.PathLike[str] | ImageSet | np.ndarray | None = None,
        y: Any = None,
        *,
        dataset: str | None = None,
        data_dir: str | None = None,
        common_classes: bool = False,
        share: float | None = None,
        strict: bool = False,
        progress: ProgressHook | None = None,
    ) -> dict[str, Any]:
        """Loss and accuracy on the test images of the run, or on other images.

        images          a folder, all images of which are used (those of test/ if it has one); an
                        .npz file with x_test and y_test; the `test` of a data set; or an array
                        (n, H, W, C) with the class numbers `y` (n,), in the order of `classes`
        dataset         a published data set, of which the test images are used
        data_dir        where to look first for published data sets
        common_classes  leave out images of classes that the model does not know
        share           only a fixed random share of each class in the folder
        strict          raise the error of a broken image in the folder; otherwise it is left out

        Classes are matched by their names. Raises `DataError` if they are not those of the model,
        unless `common_classes`. The keys of the result are those of `gpucnn evaluate --json`.
        """
        images = _on_host(images)
        in_files = isinstance(images, (str, os.PathLike))
        if not in_files and (share is not None or strict):
            raise ArgumentError("a share of the images and strict reading go with a folder of images (--data)")
        if isinstance(images, np.ndarray) != (y is not None):
            raise ArgumentError("y goes with an array of images, and an array of images needs y, their class numbers")
        if images is not None and dataset is not None:
            raise ArgumentError(f"both the data set {dataset!r} and other images are given: give one of them")
        if isinstance(images, (str, os.PathLike)):
            self._warn_if_trained_on(images)
            shape = self.signature.image_shape
            test = datasets.load_to_test(images, shape=shape, strict=strict, share=share, progress=progress)
        elif isinstance(images, ImageSet):
            test = images
        elif images is not None:
            test = ImageSet("the arrays", images, numbers("y", y), self.classes, "all images of the array")
        elif dataset is not None:
            test = datasets.load(dataset, data_dir, progress=progress).test
        else:
            test = self.settings.with_data_dir(data_dir).load_data(progress).test
        matched = test.with_classes_of(self.classes, common_classes)
        x = self.signature.scaled(matched.x)
        figures = test_figures(self.model, x, matched.y, self.classes, probabilities_of(self.model, x))
        return {
            "run": str(self.folder),
            "dataset": test.name,
            "model": self.settings.model,
            "images": len(matched.x),
            "left_out": len(test.x) - len(matched.x),
            "tested_on": test.origin,
            **figures,
            "note": test.note,
            "weights_sha256": weights_sha256(self.model),
        }

    def _warn_if_trained_on(self, data: str | os.PathLike[str]) -> None:
        trained_on = self.settings.data
        if trained_on is not None and _real(data) == _real(trained_on):
            warn(f"{data} holds the images that the run was trained on: without --data, only its test images are used")

    def __repr__(self) -> str:
        return f"<TrainedRun {self.folder}: {self.settings.model} on {self.settings.dataset}>"


def load_run(folder: str | os.PathLike[str], custom_objects: dict[str, type] | None = None) -> TrainedRun:
    """A trained run by its folder, ready to predict. Nothing in the folder is executed.

    custom_objects  your own layers by name, as in `models.load_model`

    Raises `FileError` if there is no run, or none with a model, or it is damaged.
    """
    run = Run.open(os.path.expanduser(folder))
    return TrainedRun(run, RunSettings.of(run), custom_objects)


def probabilities_of(model: Sequential, x: np.ndarray) -> np.ndarray:
    """What the model predicts for prepared images, (n, classes) float32."""
    return model.predict(x, batch_size=EVALUATION_BATCH, verbose=0)


def test_figures(
    model: Sequential, x: np.ndarray, y: np.ndarray, classes: Sequence[str], probabilities: np.ndarray
) -> dict[str, Any]:
    """`test_accuracy`, `test_loss` and `per_class` of a model for prepared images x and class numbers y.

    `per_class` has precision, recall, f1 and the number of images of each class; None where there
    is nothing to compute a score from, as for the precision of a class that was never predicted.
    """
    logs = model.evaluate(x, y, batch_size=EVALUATION_BATCH, verbose=0, return_dict=True)
    scores = scores_of(count_confusions(y, probabilities, len(classes)), zero_division=math.nan)
    per_class = {
        name: {
            "precision": _known(scores.precision[i]),
            "recall": _known(scores.recall[i]),
            "f1": _known(scores.f1[i]),
            "images": int(scores.support[i]),
        }
        for i, name in enumerate(classes)
    }
    return {"test_accuracy": logs["accuracy"], "test_loss": logs["loss"], "per_class": per_class}


def _known(score: float) -> float | None:
    return None if math.isnan(score) else float(score)


def images_in(folder: Path) -> tuple[list[Any], image_files.LeftOut]:
    """All image files of a folder, and its other files."""
    files = image_files.images_below(folder)
    left_out = image_files.LeftOut(folder)
    left_out.add_unused(set(files))
    return list(files), left_out


def checked_signature(model: Sequential, settings: RunSettings, path: Path) -> Signature:
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


def _real(path: str | os.PathLike[str]) -> str:
    return os.path.realpath(os.path.expanduser(path))
