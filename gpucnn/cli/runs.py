"""The commands that use runs: evaluate, runs, predict and plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ..runs import commands, division
from ..runs.listing import list_runs
from .group import AS_JSON, DATA, DATA_DIR, RUN, STRICT, Number, main, options
from .screen import Screen, four_decimals, peak_memory, percent, print_json, print_pairs, print_table, verdict


@main.command()
@options(
    RUN,
    click.argument("dataset", required=False),
    DATA,
    click.option(
        "--fraction",
        "share",
        metavar="X",
        type=Number(0, 1, min_open=True, max_open=True),
        help="With --data: only this fixed random fraction of each class.",
    ),
    click.option("--common-classes", is_flag=True, help="Leave out images of classes that the run does not know."),
    STRICT,
    DATA_DIR,
    AS_JSON,
)
def evaluate(run: str, dataset: str | None, data: str | None, data_dir: str | None, as_json: bool, **how: Any) -> int:
    """Compute loss and accuracy of a run's model on the test images of its data set, or of DATASET.

    With --data, all images of a folder are used; of a folder with train/ and test/, those of test/;
    of an .npz file, x_test. Classes are matched by their names, and must be those of the run.

    Keys of --json: run, dataset, model, images, left_out (images of classes that the run does not
    know), tested_on, test_accuracy, test_loss, per_class (by name: precision, recall, f1, images;
    null where there is nothing to compute it from), note, weights_sha256.
    """
    with Screen() as screen:
        answer = commands.evaluate(run, dataset, data, data_dir, progress=screen.progress, **how)
    if as_json:
        print_json(answer)
    else:
        print_pairs(
            ("test accuracy", f"{percent(answer['test_accuracy'])}{division.noted(answer['note'])}"),
            ("test loss", four_decimals(answer["test_loss"])),
            ("images", f"{answer['images']:,} of {answer['dataset']}: {answer['tested_on']}"),
            ("weights", f"sha256 {answer['weights_sha256']}"),
        )
        click.echo()
        rows = [
            (name, *(_share(scores[key]) for key in ("precision", "recall", "f1")), f"{scores['images']:,}")
            for name, scores in answer["per_class"].items()
        ]
        print_table(("class", "precision", "recall", "F1", "images"), rows)
    return verdict(answer["test_loss"])


def _share(score: float | None) -> str:
    return "–" if score is None else percent(score)


@main.command()
@options(click.argument("folder", default="runs"), AS_JSON)
def runs(folder: str, as_json: bool) -> None:
    """List the runs in FOLDER (default: runs), the best test accuracy first.

    Accuracies on different data sets cannot be compared. epochs: trained of planned.

    Keys of --json: runs; of each run: run, dataset, model, device, status, test_accuracy,
    test_loss, train_accuracy, epochs, epochs_trained, peak_device_bytes, peak_host_bytes, recipe,
    optimizer, learning_rate, batch_size, seed, note.
    """
    found = list_runs(folder)
    if as_json:
        return print_json({"runs": found})
    rows = [
        (
            run["run"],
            run["dataset"] or "",
            run["model"] or "",
            run["device"] or "",
            _share(run["test_accuracy"]),
            "–" if run["test_loss"] is None else four_decimals(run["test_loss"]),
            f"{'–' if run['epochs_trained'] is None else run['epochs_trained']} of {run['epochs']}",
            peak_memory(run),
            run["status"] or "",
        )
        for run in found
    ]
    header = "run", "data set", "model", "device", "accuracy", "loss", "epochs", "peak memory", "status"
    return print_table(header, rows)


@main.command()
@options(
    RUN,
    click.argument("images", metavar="IMAGE...", nargs=-1, required=True),
    click.option(
        "--invert/--no-invert",
        default=None,
        help="The image is dark on light; the model expects light on dark.  [default: the model's]",
    ),
    click.option(
        "--centre/--no-centre",
        "--center/--no-center",
        "centre",
        default=None,
        help="Cut out and centre a photographed digit.  [default: the model's]",
    ),
    AS_JSON,
)
def predict(run: str, images: Sequence[str], invert: bool | None, centre: bool | None, as_json: bool) -> int:
    """Predict the class of each IMAGE (PNG, JPEG, WebP, BMP, TIFF, GIF or .npy) with the model of RUN.

    Of a folder, all images are taken. Exit with status 1 if an image could not be read; the others
    are answered.

    Keys of --json: run, dataset, model, note, predictions, failed; of each prediction: image,
    class, probability, probabilities (by class); of each failed one: image, error.
    """
    answer = commands.predict(run, images, invert=invert, centre=centre)
    status = 1 if answer["failed"] else 0
    if as_json:
        print_json(answer)
        return status
    rows = []
    for prediction in answer["predictions"]:
        ranked = sorted(prediction["probabilities"].items(), key=lambda pair: -pair[1])
        others = ", ".join(f"{name} {percent(probability)}" for name, probability in ranked[1:3])
        rows.append((prediction["image"], prediction["class"], percent(prediction["probability"]), others))
    if rows:
        print_table(("image", "class", "probability", "then"), rows)
    for failure in answer["failed"]:
        click.echo(f"gpucnn: error: {failure['error']}", err=True)
    if answer["note"]:
        click.echo(f"trained on {answer['dataset']} ({answer['note']})", err=True)
    return status


@main.command()
@options(RUN, DATA_DIR)
def plot(run: str, data_dir: str | None) -> None:
    """Draw the pictures of a run again: curves, confusion matrix, predictions, filters, maps."""
    with Screen() as screen:
        for path in commands.draw(run, data_dir, progress=screen.progress):
            click.echo(path)
