"""The command that makes runs: train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from .. import datasets, distributed
from ..dispatch.precision import PRECISIONS
from ..errors import ArgumentError
from ..profiling import tuning
from ..runs import augmentation, commands, division
from ..runs.training import SCHEDULES
from .group import AS_JSON, AT_LEAST_ONE, DATA, DATA_DIR, LOAD, STRICT, TUNE, Number, main, options
from .ranks import KeepsArguments, join, supervise
from .screen import Screen, four_decimals, peak_memory, percent, print_json, print_pairs, verdict


@main.command(cls=KeepsArguments)
@options(
    click.argument("dataset", required=False),
    click.option(
        "--recipe",
        metavar="NAME",
        help="A whole training run by name, from `gpucnn models`. Other options override its values.",
    ),
    click.option(
        "--model",
        metavar="NAME",
        help="A name from `gpucnn models`, or FILE.py:FUNCTION, which is run: FUNCTION(input_shape, classes) returns "
        "your Sequential.  [default: mnist_convnet; cifar for cifar10]",
    ),
    click.option(
        "--filters",
        metavar="N",
        type=AT_LEAST_ONE,
        help="Filters of the first convolution; the others keep their ratio to it.  [default: the model's]",
    ),
    click.option(
        "--epochs", metavar="N", type=AT_LEAST_ONE, help="Passes over the training images.  [default: the model's]"
    ),
    click.option(
        "--batch-size",
        metavar="N",
        type=AT_LEAST_ONE,
        help="Images per step, of all processes together.  [default: the model's]",
    ),
    click.option(
        "--batch-size-per-rank", "per_rank", metavar="N", type=AT_LEAST_ONE, help="Images per step and MPI process."
    ),
    click.option(
        "--parts",
        metavar="N",
        type=AT_LEAST_ONE,
        help="Cut each batch into N parts and add up their gradients in order: the result is the same for any number "
        "of MPI processes up to N.  [default: one part a process]",
    ),
    click.option(
        "--rank-timeout",
        "time_limit",
        metavar="SECONDS",
        type=Number(0.1, 86_400),
        default=distributed.TIME_LIMIT,
        show_default=True,
        help="End all MPI processes after waiting so long for one.",
    ),
    click.option(
        "--ranks", metavar="N", type=AT_LEAST_ONE, help="Start N MPI processes on this machine, as mpiexec -n N does."
    ),
    click.option(
        "--restarts",
        metavar="K",
        type=click.IntRange(0, 2**31 - 1),
        default=0,
        help="Resume up to K times after a process was killed, hung or ran out of memory.",
    ),
    click.option("--optimizer", metavar="NAME", help="sgd, adam, rmsprop, …  [default: the model's]"),
    click.option(
        "--lr",
        "learning_rate",
        metavar="X",
        type=Number(min=0, min_open=True),
        help="Initial learning rate.  [default: the model's]",
    ),
    click.option(
        "--schedule",
        metavar="NAME",
        type=click.Choice(list(SCHEDULES)),
        help="How the learning rate falls over all epochs: constant, linear or cosine (to 0), exponential (to 1 %).  "
        "[default: the model's]",
    ),
    click.option(
        "--weight-decay",
        metavar="X",
        type=Number(min=0),
        help="Part of each weight, times the learning rate, that a step takes away.  [default: the optimizer's]",
    ),
    click.option(
        "--augment",
        metavar="NAME",
        type=click.Choice(augmentation.LEVELS),
        help="Change the training images at random in each step: light (shifts), strong (shifts, rotations, zooms, "
        "contrast). A step takes up to 11 % longer on the CPU.  [default: the recipe's]",
    ),
    click.option(
        "--flip/--no-flip",
        default=None,
        help="Mirror half of the training images in each step, left to right: not for digits.  [default: the recipe's]",
    ),
    click.option(
        "--validation-split",
        metavar="X",
        type=Number(0, 1, max_open=True),
        help="Hold out this fraction of the training images, drawn at random.  [default: 0]",
    ),
    click.option(
        "--early-stopping",
        metavar="N",
        type=AT_LEAST_ONE,
        help="Stop after N epochs without a lower validation loss.",
    ),
    click.option(
        "--best/--no-best", default=None, help="Keep the weights of the epoch with the lowest validation loss."
    ),
    click.option(
        "--seed", metavar="N", type=click.IntRange(0, 2**32 - 1), help="Equal seeds give equal weights.  [default: 0]"
    ),
    click.option(
        "--device",
        metavar="NAME",
        help="Where to compute: cpu, gpu[:N], emulator, or auto: a GPU that passes its check, else the CPU.  "
        "[default: auto]",
    ),
    click.option(
        "--backend",
        metavar="NAME",
        help="Kernels to use: njit or numpy on the CPU, cuda or numba on a GPU and in the emulator.  "
        "[default: the fastest for the device]",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="Of factors in products: tf32 and bfloat16 are for tensor cores (cuda, 8.0 and newer); the CPU computes "
        "the same with NumPy, slowly.  [default: float32]",
    ),
    click.option(
        "--algorithm",
        "algorithms",
        metavar="OP=NAME",
        multiple=True,
        help="Algorithm for an op and its gradients, such as conv2d=direct; repeatable.",
    ),
    TUNE,
    LOAD,
    click.option(
        "--threads",
        metavar="N",
        type=AT_LEAST_ONE,
        help="CPU threads; any number gives the same result.  [default: all]",
    ),
    click.option("--save-every", metavar="N", type=AT_LEAST_ONE, help="Also save a checkpoint every N batches."),
    DATA,
    click.option("--image-shape", metavar="HxWxC", help="With --data: convert image files to this size."),
    STRICT,
    click.option(
        "--stream/--no-stream",
        default=None,
        help="With --data: leave the training images in a file and read each batch when it is due.  [default: if they "
        "do not fit into the memory]",
    ),
    DATA_DIR,
    click.option("--out", "folder", metavar="FOLDER", help="Run folder.  [default: runs/<date>-<dataset>-<model>]"),
    click.option(
        "--resume",
        "resumed",
        metavar="RUN",
        help="Resume this run; only --epochs may be changed. Give the files of --load, and of your --model, again.",
    ),
    click.option(
        "--target-acc",
        metavar="X",
        type=Number(0, 1, min_open=True),
        help="Exit with status 1 if the test accuracy is lower.",
    ),
    click.option("--pictures/--no-pictures", default=True, help="Draw the pictures of the run.  [default: pictures]"),
    click.option(
        "--tensorboard", is_flag=True, help="Also write RUN/tensorboard, for TensorBoard (extra tensorboard)."
    ),
    AS_JSON,
)
def train(
    resumed: str | None,
    folder: str | None,
    target_acc: float | None,
    pictures: bool,
    tensorboard: bool,
    as_json: bool,
    per_rank: int | None,
    time_limit: float,
    ranks: int | None,
    restarts: int,
    **arguments: Any,
) -> int:
    """Train a model, then evaluate it once on the test images.

    DATASET is a name from `gpucnn data list`; the default is the embedded digits. With --data, PATH
    is one of these:

    \b
    - a folder with a subfolder of images for each class: a fixed random fifth of each class is held
      out for the test
    - a folder with train/ and test/, which hold these subfolders, and perhaps val/ (or valid/,
      validation/): they are used as they are, val/ as validation data
    - an .npz file with x_train, y_train, x_test, y_test, and perhaps x_val, y_val and classes

    `mpiexec -n N gpucnn train …`, or --ranks N, trains with N processes, each of which computes a part of
    each batch.

    Subfolders of a class belong to it. Files that are left out are counted, with the reasons.

    Keys of --json, as in the run's run.json: dataset, model, device, backend, precision, threads
    (of the CPU), seed, epochs, epochs_trained, best_epoch (with --best), seconds (of training since the start
    or the last --resume), images_per_second, peak_device_bytes (of arrays on a GPU), peak_host_bytes (of the
    process), train_accuracy (in the last epoch), test_accuracy, test_loss, per_class (by name:
    precision, recall, f1, images), parameters, weights_sha256, status, note, settings, versions.
    """
    if ranks is not None or restarts:
        return supervise(click.get_current_context(), resumed or folder, ranks, restarts)
    values = {name: value for name, value in arguments.items() if value not in (None, ())}
    if not values["strict"]:
        del values["strict"]
    if "algorithms" in values:
        values["algorithms"] = algorithms_in(values["algorithms"])
    load = values.pop("load", ())
    with distributed.ending_together(), Screen() as screen:
        parts = commands.RunSettings.of(commands.Run.open(resumed)).parts if resumed else values.get("parts")
        size = join(parts, time_limit, bool(resumed))
        if per_rank is not None:
            if "batch_size" in values:
                raise ArgumentError("--batch-size and --batch-size-per-rank are both given: give one of them")
            values["batch_size"] = per_rank * size
        work = {
            "load": load,
            "pictures": pictures,
            "tensorboard": tensorboard,
            "say": screen.say,
            "progress": screen.progress,
        }
        if resumed is not None:
            epochs = values.pop("epochs", None)
            model = values.pop("model", None)
            if values or folder:
                raise ArgumentError(
                    "--resume takes all settings from the run and only --epochs may differ: leave out the rest"
                )
            run = commands.resume(resumed, epochs, model=model, **work)
        else:
            if not values.keys() & {"dataset", "data", "recipe"}:
                screen.say("no data set given: using the embedded digits")
            run = commands.train(commands.RunSettings(**values), folder, **work)
        leads = distributed.leads()
    if not leads:
        return 0
    record = run.record
    if as_json:
        print_json(record)
    else:
        print_pairs(
            ("test accuracy", f"{percent(record['test_accuracy'])}{division.noted(record['note'])}"),
            ("test loss", four_decimals(record["test_loss"])),
            ("train accuracy", f"{percent(record['train_accuracy'])} in the last epoch"),
            ("time", f"{record['seconds']:.1f} s, {record['images_per_second'] or 0:,.0f} images/s"),
            ("peak memory", peak_memory(record)),
            *([("tuned", tuning.summary())] if run.settings.get("tune", "off") != "off" else []),
            ("weights", f"sha256 {record['weights_sha256']}"),
            ("run", f"{run.folder}{' (pictures in pictures/)' if pictures else ''}"),
            *([("TensorBoard", f"tensorboard --logdir {run.folder / 'tensorboard'}")] if tensorboard else []),
            ("next", f"gpucnn predict {run.folder} IMAGE.png{_preparation(run.settings)}"),
        )
    if target_acc is not None and not record["test_accuracy"] >= target_acc:
        click.echo(f"gpucnn: the test accuracy {record['test_accuracy']:.4f} misses the target {target_acc}", err=True)
        return 1
    return verdict(record["test_loss"])


def _preparation(settings: dict[str, Any]) -> str:
    """The options that a photograph needs to look like the images of the run."""
    named = settings.get("data") is None and settings.get("dataset") is not None
    return " --invert --centre" if named and datasets.centring(settings["dataset"]) else ""


def algorithms_in(texts: Iterable[str]) -> dict[str, str]:
    """What --algorithm says: the name of an algorithm by op."""
    return dict(map(_op_and_algorithm, texts))


def _op_and_algorithm(text: str) -> tuple[str, str]:
    op, equals, algorithm = text.partition("=")
    if not (op and equals and algorithm):
        raise ArgumentError(f"--algorithm {text!r} must be OP=NAME, such as conv2d=direct")
    return op, algorithm
