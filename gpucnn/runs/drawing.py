"""The pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..datasets import Dataset
from ..files import explained, make_folder
from ..layers import Conv2D, Resizing
from ..layers.augmentation import Augmentation
from ..layers.layer import every
from ..metrics.report import class_numbers
from ..models.sequential import Sequential
from .run import Run

if TYPE_CHECKING:
    from ..plots import Picture


def pictures(
    run: Run, model: Sequential, data: Dataset, x_test: np.ndarray, probabilities: np.ndarray
) -> dict[str, Picture]:
    """The pictures of a trained run by name: those of its figures and predictions, of convolutions
    their filters and maps and what predictions rest on, and of data augmentation what it does.

    x_test         (n, H, W, C) the test images, as the model takes them
    probabilities  (n, classes) what the model predicts for them
    """
    from .. import plots

    title, note = f"{run.settings['model']} on {data.name}", data.note or ""
    drawn = {
        "learning_curves": plots.learning_curves(run.read_history(), title, note, _test_figures(run)),
        "confusion_matrix": plots.confusion_matrix(data.y_test, probabilities, data.classes, title, note),
        "predictions": plots.predictions(x_test, data.y_test, probabilities, data.classes, title, note),
    }
    if any(isinstance(layer, Conv2D) for layer in every(model.layers)):
        drawn["filters"] = plots.filters(model, f"{title}: filters of the first convolution", note)
        y_true = class_numbers("y_test", data.y_test[:1])[0]
        drawn["feature_maps"] = plots.feature_maps(
            model, x_test[0], f"{title}: feature maps", note, data.classes, int(y_true)
        )
        if not any(isinstance(layer, Resizing) for layer in every(model.layers)):  # which has no gradient
            drawn["explanations"] = plots.explanations(
                model, x_test, data.y_test, probabilities, data.classes, f"{title}: what predictions rest on", note
            )
    if any(isinstance(layer, Augmentation) for layer in model.layers):
        signature = model.signature
        assert signature is not None
        shown = signature.scaled(data.x_train[:8])
        drawn["augmented"] = plots.augmented(model, shown, f"{title}: images as training sees them", note)
    return drawn


def save(run: Run, model: Sequential, data: Dataset, x_test: np.ndarray, probabilities: np.ndarray) -> list[Path]:
    """Draw all pictures of a run into its folder; returns their paths."""
    drawn = pictures(run, model, data, x_test, probabilities)
    folder = run.folder / "pictures"
    with explained("make", folder):
        make_folder(folder)
    return [picture.save(folder / f"{name}.png") for name, picture in drawn.items()]


def _test_figures(run: Run) -> dict[str, float]:
    """Loss and accuracy on the test images, without those that are not finite."""
    record = run.record
    figures = {"loss": record["test_loss"], "accuracy": record["test_accuracy"]}
    return {name: value for name, value in figures.items() if value is not None}
