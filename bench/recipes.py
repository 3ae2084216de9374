"""What the recipes reach: a table of the runs in a folder, each recipe compared with its text.

    gpucnn train --recipe torres --seed 0 --out runs/torres-0      # one run, and so on
    python bench/recipes.py runs                                   # print the table
    python bench/recipes.py runs --save bench/results/cpu-amd-epyc/recipes.json
    python bench/recipes.py --save bench/results/cpu-amd-epyc/recipes.json     # the table of the record again

Only finished runs count that departed from their recipe in nothing but the seed. The record has one
entry for each; the runs of the folder replace those of the same recipe and seed. Seconds are those of
`fit`, and kept only of a run that was never resumed. The table in the README is made from the record and
from `recipes_vs_torch.json` next to it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from gpucnn.files import write_atomically
from gpucnn.runs import recipes
from gpucnn.runs.listing import list_runs
from gpucnn.runs.run import Run

KEPT = ("seed", "device", "backend", "epochs_trained", "test_accuracy", "test_loss", "weights_sha256", "note")
IMAGES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}
"""For training and validation, by data set."""


def entries_of(folder: str | Path) -> list[dict[str, Any]]:
    """The runs in a folder that followed a recipe to its end."""
    entries = []
    for row in list_runs(folder):
        run = Run.open(row["run"])
        name = run.settings.get("recipe")
        if name and run.record["status"] == "finished" and recipes.find(name).followed_by(run.settings):
            kept = {key: run.record.get(key) for key in KEPT}
            entries.append({"recipe": recipes.find(name).name} | kept | _time(run, recipes.find(name)))
    return merged((), entries)


def _time(run: Run, recipe: recipes.Recipe) -> dict[str, Any]:
    """The seconds of a run's training and its threads, if the run says so of all of its epochs."""
    record, count = run.record, int(IMAGES[recipe.dataset] * (1 - recipe.validation_split))
    threads = record.get("threads") or run.settings.get("threads")
    seconds, trained = record.get("seconds") or 0.0, count * (record.get("epochs_trained") or 0)
    whole = trained and round((record.get("images_per_second") or 0.0) * seconds) == trained
    return {"seconds": seconds if whole and threads else None, "threads": threads}


def table(entries: Iterable[dict[str, Any]], in_torch: Mapping[str, Any]) -> str:
    """The table of a record in Markdown, with the record of `recipes_vs_torch.py`."""
    lines = [
        "| recipe | data set | the text's test accuracy | gpucnn's: mean of the seeds (lowest … highest) | the same in "
        "PyTorch | training |",
        "|---|---|---|---|---|---|",
    ]
    of_recipe: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        of_recipe.setdefault(entry["recipe"], []).append(entry)
    for name, runs in of_recipe.items():
        recipe, reached = recipes.find(name), _spread([run["test_accuracy"] for run in runs])
        text = "–" if recipe.accuracy is None else f"{100 * recipe.accuracy:.2f} %"
        torch = _spread(in_torch[name]["test_accuracies"]) if name in in_torch else "–"
        note = f"; {runs[0]['note'].removeprefix(f'{recipe.dataset}: ')}" if runs[0]["note"] else ""
        lines.append(f"| {name} | {recipe.dataset}{note} | {text} | {reached} | {torch} | {_minutes(runs)} |")
    return "\n".join(lines) + "\n"


def _minutes(runs: list[dict[str, Any]]) -> str:
    """The median time of the runs, for each number of threads; a dash if none is known."""
    of_threads: dict[int, list[float]] = {}
    for run in runs:
        if run.get("seconds"):
            of_threads.setdefault(run["threads"], []).append(run["seconds"] / 60)
    times = (f"{statistics.median(times):.1f} min ({threads} threads)" for threads, times in sorted(of_threads.items()))
    return ", ".join(times).replace("(1 threads)", "(1 thread)") or "–"


def _spread(accuracies: list[float]) -> str:
    values = [100 * accuracy for accuracy in accuracies]
    spread = f" ({min(values):.2f} … {max(values):.2f}, {len(values)} seeds)" if len(values) > 1 else ", 1 seed"
    return f"{statistics.mean(values):.2f} %{spread}"


def merged(old: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of two records in the order of recipes and seeds; `new` ones replace `old` ones."""
    order = [recipe.name for recipe in recipes.RECIPES]
    found = {(order.index(entry["recipe"]), entry["seed"]): entry for entry in (*old, *new)}
    return [found[key] for key in sorted(found)]


@click.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--save", metavar="FILE", type=click.Path(dir_okay=False), help="Also take them into the record FILE.")
def main(folder: str | None, save: str | None) -> None:
    """Print what the recipes reached in the runs of FOLDER, and with --save in those of the record."""
    entries = entries_of(folder) if folder else []
    if not entries and (folder or not save):
        where = f"no run in {folder} followed a recipe to its end" if folder else "neither runs nor a record are named"
        raise click.ClickException(f"{where}: give a folder of runs, or --save FILE")
    in_torch: dict[str, Any] = {}
    if save:
        path = Path(save)
        entries = merged(json.loads(path.read_text()) if path.exists() else (), entries)
        write_atomically(path, json.dumps(entries, indent=1, ensure_ascii=False).encode() + b"\n")
        rivals = path.with_name("recipes_vs_torch.json")
        in_torch = json.loads(rivals.read_text()) if rivals.exists() else {}
    click.echo(table(entries, in_torch), nl=False)


if __name__ == "__main__":
    main()
