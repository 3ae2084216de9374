"""The commands that try settings: sweep and lr-find."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from ..errors import ArgumentError, did_you_mean
from ..runs import commands, division, rate_search, search
from ..runs import sweep as sweeps
from ..runs.sweep_result import Sweep, label
from .group import AS_JSON, AT_LEAST_ONE, Number, main, options, written
from .screen import Screen, percent, print_json, print_pairs, print_table
from .train import algorithms_in, train

_AXES = {option.name: option for option in train.params if option.name in sweeps.AXES}
"""The options of `gpucnn train` that an axis can vary, by setting."""

_OF_ALL = {
    *("dataset", "recipe", "data", "image_shape", "strict", "data_dir", "seed", "device", "backend", "threads"),
    *("precision", "algorithms", "load"),
}
_SHARED = [option for option in train.params if option.name in _AXES.keys() | _OF_ALL]


@main.command(params=_SHARED)
@options(
    click.option(
        "--axis",
        "axes",
        metavar="NAME=A,B,…",
        multiple=True,
        help="Values of an option of `gpucnn train`, such as lr=0.01,0.1; repeatable: all combinations are trained. "
        "With --search also a range, such as lr=0.001..0.1.",
    ),
    click.option(
        "--search",
        "count",
        metavar="N",
        type=AT_LEAST_ONE,
        help="Train only N combinations, which optuna chooses, each from what the earlier ones reached (extra search).",
    ),
    click.option(
        "--seeds", metavar="N", type=AT_LEAST_ONE, default=1, show_default=True, help="Trials of each combination."
    ),
    click.option(
        "--jobs",
        metavar="N",
        type=AT_LEAST_ONE,
        help="Trials at a time, which divide the cores.  [default: one for each core; 1 on a GPU]",
    ),
    click.option(
        "--out", "folder", metavar="FOLDER", help="Folder of the trials.  [default: runs/sweep-<dataset>-<model>]"
    ),
    AS_JSON,
)
def sweep(
    axes: tuple[str, ...],
    count: int | None,
    seeds: int,
    jobs: int | None,
    folder: str | None,
    load: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> int:
    """Train every combination of the values of some options, each with several seeds, and compare
    what they reach.

    \b
    gpucnn sweep --recipe torres --axis lr=0.01,0.1 --axis filters=16,32 --seeds 3
    gpucnn sweep --recipe slides --axis lr=0.0001..0.01 --axis filters=8..32 --search 20

    Each trial is a run in a folder of its name, which every command takes. The same command, or
    one with more values, trains only what is missing; after Ctrl-C each trial resumes from its
    checkpoint. Combinations are ranked by the accuracy on validation images if there are some
    (--validation-split), else on the test images; --search needs validation images. sweep.json and
    sweep.png hold table and picture.

    `mpiexec -n N gpucnn sweep …` trains on N processes, of one machine or several, one trial each.

    Exit with status 1 if a trial failed; its error is in the table.

    Keys of --json: folder, dataset, note, ranked_by, rows (the best first), trials; of each row:
    values, scores, mean, deviation (over the seeds), trials, failed, seconds (in all); of each
    trial: run, values, seed, status, error, figures.
    """
    named = [_axis(text) for text in axes]
    chosen = dict(named)
    if len(chosen) < len(named):
        raise ArgumentError("an axis is given twice: give all its values in one --axis NAME=A,B")
    with Screen() as screen:
        settings = _settings(given)
        work: dict[str, Any] = {"load": load, "say": screen.remark, "progress": screen.progress}
        if count is not None:
            result = search.run(settings, chosen, count, seeds, folder, jobs, **work)
        else:
            result = sweeps.run(settings, _without_ranges(chosen), seeds, folder, jobs, **work)
    if result is None:  # another rank prints
        return 0
    if as_json:
        print_json(result.describe())
    else:
        _print(result)
    return 1 if any(trial.status != "finished" for trial in result.trials) else 0


_OF_A_RUN = _OF_ALL | {"model", "filters", "optimizer", "batch_size", "weight_decay", "augment", "flip"}


@main.command("lr-find", params=[option for option in train.params if option.name in _OF_A_RUN])
@options(
    click.option(
        "--steps", metavar="N", type=AT_LEAST_ONE, default=rate_search.STEPS, show_default=True, help="Batches."
    ),
    click.option(
        "--from",
        "lowest",
        metavar="X",
        type=Number(0, min_open=True),
        default=rate_search.LOWEST,
        show_default=True,
        help="The first rate.",
    ),
    click.option(
        "--to",
        "highest",
        metavar="X",
        type=Number(0, min_open=True),
        default=rate_search.HIGHEST,
        show_default=True,
        help="The last rate.",
    ),
    click.option("--out", metavar="FILE", help="The picture, a .png file.  [default: lr-find-<dataset>-<model>.png]"),
    AS_JSON,
)
def lr_find(
    steps: int, lowest: float, highest: float, out: str | None, load: tuple[str, ...], as_json: bool, **given: Any
) -> int:
    """Find a learning rate: train a new model for some batches while the rate grows, and draw the
    loss by rate (Smith 2017, the range test).

    The suggestion is the rate at which the loss falls fastest. Nothing but the picture is written.
    Exit with status 1 if the loss never falls.

    Keys of --json: suggestion, ended (why, if before the last step), dataset, model, optimizer, note,
    rates, losses, smoothed, picture.
    """
    if out is not None and not out.lower().endswith(".png"):
        raise ArgumentError(f"--out {out}: the picture is a PNG file; give a name that ends in .png")
    with Screen() as screen:
        found = rate_search.search(_settings(given), steps, lowest, highest, load=load, progress=screen.progress)
    default = f"lr-find-{found.dataset}-{found.model}".replace(":", "-")
    path = found.picture().save(out or f"{default}.png")
    if as_json:
        print_json({**asdict(found), "picture": str(path)})
    else:
        rate = "none: the loss never falls; try other rates" if found.suggestion is None else f"{found.suggestion:.2g}"
        print_pairs(("suggestion", f"{rate}{division.noted(found.note)}"), ("picture", path))
        if found.ended:
            print_pairs(("ended early", found.ended))
        if found.suggestion is not None:
            words = written(train)
            if not any(given[name] for name in ("dataset", "recipe", "data")):
                words.insert(0, found.dataset)
            print_pairs(("next", f"gpucnn train {' '.join(words)} --lr {found.suggestion:.2g}"))
    return 1 if found.suggestion is None else 0


def _settings(given: dict[str, Any]) -> commands.RunSettings:
    values = {name: value for name, value in given.items() if value is not None}
    return commands.RunSettings(**values | {"algorithms": algorithms_in(given["algorithms"]) or None})


def _axis(text: str) -> tuple[str, list[Any] | search.Span]:
    """A setting and its values from `lr=0.01,0.1`, or its range from `lr=0.01..0.1`, each value read as
    `gpucnn train` reads it."""
    name, equals, values = text.partition("=")
    options = {spelling.lstrip("-").replace("_", "-"): option for option in _AXES.values() for spelling in option.opts}
    option = options.get(name.strip().lstrip("-").replace("_", "-"))
    if option is None or option.name is None:
        hint = did_you_mean(name, options)
        raise ArgumentError(f"--axis {text!r}: {hint}{hint and ' '}the axes are {', '.join(options)}")
    if not equals or not values.strip():
        raise ArgumentError(f"--axis {text!r} must be NAME=A,B,…, such as lr=0.01,0.1")
    ends = values.split("..") if "," not in values else []
    read = []
    for value in ends if len(ends) == 2 else values.split(","):
        try:
            read.append(option.type.convert(value.strip(), option, None))
        except click.BadParameter as error:
            raise ArgumentError(f"--axis {text!r}: {error.message}") from error
    if len(ends) != 2:
        return option.name, read
    if not all(type(end) in (int, float) for end in read):
        raise ArgumentError(f"--axis {text!r}: only numbers have a range; give the values: {name}=A,B,…")
    return option.name, search.Span(*read)


def _without_ranges(axes: search.Axes) -> dict[str, Sequence[Any]]:
    lists = {}
    for name, axis in axes.items():
        if isinstance(axis, search.Span):
            raise ArgumentError(
                f"{name}={axis.low:g}..{axis.high:g} is a range, of which --search 20 would try 20 values: add it, or "
                "list the values to be tried"
            )
        lists[name] = axis
    return lists


def _print(result: Sweep) -> None:
    names = list(result.trials[0].values)
    print_table(
        (*names, "mean", "deviation", "range", "finished", "time"),
        [
            (
                *(_short(row.values[name]) for name in names),
                percent(row.mean) if row.scores else "–",
                percent(row.deviation) if len(row.scores) > 1 else "–",
                f"{percent(min(row.scores))} … {percent(max(row.scores))}" if row.scores else "–",
                f"{len(row.scores)} of {row.trials}",
                f"{row.seconds:,.1f} s",
            )
            for row in result.rows
        ],
    )
    click.echo(f"\n{result.ranked_by} on {result.dataset}{division.noted(result.note)}")
    click.echo(f"picture: {result.folder / 'sweep.png'}")
    best = result.best
    if best is not None:
        click.echo(f"best run: {best.folder}\nnext: gpucnn report {shlex.quote(str(best.folder))}")
    failed = [trial for trial in result.trials if trial.status != "finished"]
    if failed:
        click.echo()
        rows = [(label(trial.values, trial.seed), trial.error or trial.status) for trial in failed]
        print_table(("failed", "error"), rows)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
