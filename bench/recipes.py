"""What the recipes reach: a table of the runs in a folder, each recipe compared with its text.

    gpucnn train --recipe torres --seed 0 --out runs/torres-0      # one run, and so on
    python bench/recipes.py runs                                   # print the table
    python bench/recipes.py runs --save bench/results/cpu-amd-epyc/recipes.json

Only finished runs count that departed from their recipe in nothing but the seed. The record has one
entry for each; the table in the README is made from it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from gpucnn.files import write_atomically
from gpucnn.runs import recipes
from gpucnn.runs.listing import list_runs
from gpucnn.runs.run import Run

KEPT = ("seed", "device", "backend", "epochs_trained", "test_accuracy", "test_loss", "weights_sha256", "note")


def entries_of(folder: str | Path) -> list[dict[str, Any]]:
    """The runs in a folder that followed a recipe to its end, in the order of recipes and seeds."""
    entries = []
    for row in list_runs(folder):
        run = Run.open(row["run"])
        name = run.settings.get("recipe")
        if name and run.record["status"] == "finished" and recipes.find(name).followed_by(run.settings):
            entries.append({"recipe": recipes.find(name).name} | {key: run.record.get(key) for key in KEPT})
    order = [recipe.name for recipe in recipes.RECIPES]
    return sorted(entries, key=lambda entry: (order.index(entry["recipe"]), entry["seed"]))


def table(entries: Iterable[dict[str, Any]]) -> str:
    """The table of a record in Markdown."""
    lines = [
        "| recipe | data set | the text's test accuracy | gpucnn's: mean of the seeds (lowest … highest) |",
        "|---|---|---|---|",
    ]
    of_recipe: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        of_recipe.setdefault(entry["recipe"], []).append(entry)
    for name, runs in of_recipe.items():
        recipe, accuracies = recipes.find(name), [100 * run["test_accuracy"] for run in runs]
        text = "–" if recipe.accuracy is None else f"{100 * recipe.accuracy:.2f} %"
        spread = f" ({min(accuracies):.2f} … {max(accuracies):.2f}, {len(runs)} seeds)" if len(runs) > 1 else ", 1 seed"
        note = f"; {runs[0]['note'].removeprefix(f'{recipe.dataset}: ')}" if runs[0]["note"] else ""
        lines.append(f"| {name} | {recipe.dataset}{note} | {text} | {statistics.mean(accuracies):.2f} %{spread} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--save", metavar="FILE", type=click.Path(dir_okay=False), help="Also write the record to FILE.")
def main(folder: str, save: str | None) -> None:
    """Print what the recipes reached in the runs of FOLDER."""
    entries = entries_of(folder)
    if not entries:
        raise click.ClickException(f"no run in {folder} followed a recipe to its end")
    click.echo(table(entries), nl=False)
    if save:
        write_atomically(save, json.dumps(entries, indent=1, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    main()
