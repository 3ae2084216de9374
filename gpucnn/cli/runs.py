"""The commands that make a run and use it: train, evaluate, predict, plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ..errors import ArgumentError
from .group import AS_JSON, AT_LEAST_ONE, DATA, DATA_DIR, LOAD, RUN, main, options
from .screen import Screen, percent, print_json, print_pairs, print_table


@main.command()
@options(
    click.argument("dataset", required=False),
    click.option("--model", metavar="NAME", help="One of `gpucnn models`.  [default: mnist_convnet]"),
    click.option(
        "--epochs", metavar="N", type=AT_LEAST_ONE, help="Passes over the training images.  [default: the model's]"
    ),
    click.option("--batch-size", metavar="N", type=AT_LEAST_ONE, help="Images in one step.  [default: the model's]"),
    click.option("--optimizer", metavar="NAME", help="sgd, adam, rmsprop, …  [default: the model's]"),
    click.option(
        "--lr",
        "learning_rate",
        metavar="X",
        type=click.FloatRange(min=0, min_open=True),
        help="The first learning rate.",
    ),
    click.option(
        "--validation-split",
        metavar="X",
        type=click.FloatRange(0, 1, max_open=True),
        help="Hold out this part of the images.",
    ),
    click.option(
        "--seed", metavar="N", type=click.IntRange(0, 2**32 - 1), help="Equal seeds end in equal weights.  [default: 0]"
    ),
    click.option("--device", metavar="NAME", help="Where to compute: cpu, gpu[:N] or emulator.  [default: the CPU]"),
    click.option(
        "--backend",
        metavar="NAME",
        help="The kernels to use: njit or numpy on the CPU, cuda or numba on a GPU and in the emulator.  "
        "[default: the fastest of the device]",
    ),
    click.option(
        "--algorithm",
        "algorithms",
        metavar="OP=NAME",
        multiple=True,
        help="The algorithm for an op and its gradients, such as conv2d=direct; may be repeated.",
    ),
    LOAD,
    click.option(
        "--threads",
        metavar="N",
        type=AT_LEAST_ONE,
        help="CPU threads; any number gives the same result.  [default: all]",
    ),
    click.option("--save-every", metavar="N", type=AT_LEAST_ONE, help="Checkpoints every N batches, too."),
    DATA,
    click.option("--image-shape", metavar="HxWxC", help="With --data: the size to which image files are brought."),
    DATA_DIR,
    click.option("--out", "folder", metavar="FOLDER", help="The run folder.  [default: runs/<date>-<dataset>-<model>]"),
    click.option("--resume", "resumed", metavar="RUN", help="Go on with this run; only --epochs may be changed."),
    click.option(
        "--target-acc", metavar="X", type=click.FloatRange(0, 1, min_open=True), help="Exit with 1 if it is missed."
    ),
    click.option("--pictures/--no-pictures", default=True, help="Draw the pictures of the run.  [default: pictures]"),
    AS_JSON,
)
def train(
    resumed: str | None, folder: str | None, target_acc: float | None, pictures: bool, as_json: bool, **given: Any
) -> int:
    """Train a model, then evaluate it once on the test images.

    DATASET is one of `gpucnn data list`; without it (and without --data) the embedded digits are taken.

    Keys of --json, as in the run's run.json: dataset, model, device, backend, precision, seed, epochs, seconds (of
    training since the start or the last --resume), images_per_second, train_accuracy (in the last epoch),
    test_accuracy, test_loss, parameters, weights_sha256, status, note, settings, versions.
    """
    from ..runs import experiment

    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    if "algorithms" in chosen:
        chosen["algorithms"] = dict(map(_pair, chosen["algorithms"]))
    if "load" in chosen:
        chosen["load"] = list(chosen["load"])
    with Screen() as screen:
        if resumed is not None:
            epochs = chosen.pop("epochs", None)
            if chosen or folder:
                raise ArgumentError(
                    "--resume takes all settings from the run, and only --epochs may differ: leave out the rest"
                )
            run = experiment.resume(resumed, epochs, pictures=pictures, say=screen.say, progress=screen.progress)
        else:
            if not chosen.keys() & {"dataset", "data"}:
                screen.say("no data set is given: taking the embedded digits")
            settings = experiment.Settings(**chosen)
            run = experiment.train(settings, folder, pictures=pictures, say=screen.say, progress=screen.progress)
    record = run.record
    if as_json:
        print_json(record)
    else:
        print_pairs(
            ("test accuracy", f"{percent(record['test_accuracy'])}{experiment.noted(record['note'])}"),
            ("test loss", f"{record['test_loss']:.4f}"),
            ("train accuracy", f"{percent(record['train_accuracy'])} in the last epoch"),
            ("time", f"{record['seconds']:.1f} s, {record['images_per_second'] or 0:,.0f} images/s"),
            ("weights", f"sha256 {record['weights_sha256']}"),
            ("run", f"{run.folder}{' (pictures in pictures/)' if pictures else ''}"),
            ("next", f"gpucnn predict {run.folder} IMAGE.png --invert --centre"),
        )
    if target_acc is not None and not record["test_accuracy"] >= target_acc:
        click.echo(f"gpucnn: the test accuracy {record['test_accuracy']:.4f} misses the target {target_acc}", err=True)
        return 1
    return 0


def _pair(text: str) -> tuple[str, str]:
    op, equals, algorithm = text.partition("=")
    if not (op and equals and algorithm):
        raise ArgumentError(f"--algorithm {text!r} must be OP=NAME, such as conv2d=direct")
    return op, algorithm


@main.command()
@options(RUN, click.argument("dataset", required=False), DATA, DATA_DIR, AS_JSON)
def evaluate(run: str, dataset: str | None, data: str | None, data_dir: str | None, as_json: bool) -> None:
    """Loss and accuracy of a run's model on test images: those of its own data set, or those of DATASET.

    Keys of --json: run, dataset, model, images, test_accuracy, test_loss, note, weights_sha256.
    """
    from ..runs import experiment

    with Screen() as screen:
        answer = experiment.evaluate(run, dataset, data, data_dir, progress=screen.progress)
    if as_json:
        return print_json(answer)
    return print_pairs(
        ("test accuracy", f"{percent(answer['test_accuracy'])}{experiment.noted(answer['note'])}"),
        ("test loss", f"{answer['test_loss']:.4f}"),
        ("images", f"{answer['images']:,} of {answer['dataset']}"),
        ("weights", f"sha256 {answer['weights_sha256']}"),
    )


@main.command()
@options(
    RUN,
    click.argument("images", metavar="IMAGE...", nargs=-1, required=True),
    click.option("--invert", is_flag=True, help="The image is dark on light, and the model knows light on dark."),
    click.option("--centre", "--center", "centre", is_flag=True, help="Cut out a photographed digit as MNIST's are."),
    AS_JSON,
)
def predict(run: str, images: Sequence[str], invert: bool, centre: bool, as_json: bool) -> None:
    """The class of each image file (PNG, JPEG or .npy), as the model of RUN sees it.

    Keys of --json: run, dataset, model, note, predictions; of each prediction: image, class, probability, probabilities
    (by class).
    """
    from ..runs import experiment

    answer = experiment.predict(run, images, invert=invert, centre=centre)
    if as_json:
        return print_json(answer)
    rows = []
    for seen in answer["predictions"]:
        ranked = sorted(seen["probabilities"].items(), key=lambda pair: -pair[1])
        others = ", ".join(f"{name} {percent(probability)}" for name, probability in ranked[1:3])
        rows.append((seen["image"], seen["class"], percent(seen["probability"]), others))
    print_table(("image", "class", "probability", "then"), rows, wrapped=1)
    if answer["note"]:
        click.echo(f"trained on {answer['dataset']} ({answer['note']})", err=True)
    return None


@main.command()
@options(RUN, DATA_DIR)
def plot(run: str, data_dir: str | None) -> None:
    """Draw the pictures of a run anew: curves, confusion matrix, predictions, filters, feature maps."""
    from ..runs import experiment

    with Screen() as screen:
        for path in experiment.draw(run, data_dir, progress=screen.progress):
            click.echo(path)
