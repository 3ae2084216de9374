"""One training step of a model on the GPU of this machine, next to what is predicted for its card.

    python bench/beside_prediction.py slides --out bench/results/nvidia-h100-80gb-hbm3

Writes step-<model>.json: the rows of `gpucnn bench train --vs`, the predicted step as
`gpucnn bench train --predict` has it, and measured divided by predicted. Without the compilers that
a prediction needs, or for a card that predictions do not know, `why` says so and the measured rows
are written alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from gpucnn.devices import cards, choose
from gpucnn.errors import GpucnnError
from gpucnn.files import make_folder, write_atomically
from gpucnn.runs import step


def card_of(gpu: str) -> str | None:
    """The name in `cards.CARDS` of a GPU that the driver calls so; None if it is not there."""
    title = re.sub(r"[^a-z0-9]", "", gpu.lower())
    return next((name for name in cards.CARDS if name in title), None)


def measured(model: str, vs: str, device: str, seconds: float) -> dict[str, Any]:
    """What `gpucnn bench train` prints as JSON. Ends this program with its exit status if it fails."""
    command = [sys.executable, "-m", "gpucnn", "bench", "train", "--model", model, "--vs", vs, "--device", device]
    done = subprocess.run([*command, "--seconds", str(seconds), "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def predicted(model: str, gpu: str, card: str | None) -> tuple[dict[str, Any] | None, str | None]:
    """The predicted step, and why there is none."""
    name = card or card_of(gpu)
    if name is None:
        return None, f"predictions do not know {gpu}"
    try:
        return step.row(step.predicted(model, cards.find(name))), None
    except GpucnnError as error:
        return None, str(error)


@click.command(help=__doc__)
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the record.")
@click.option("--vs", default="torch,torch-graph", show_default=True)
@click.option("--device", default="gpu", show_default=True)
@click.option("--card", help="Predict for this card.  [default: that of the GPU here]")
@click.option("--seconds", default=10.0, show_default=True)
def main(model: str, out: Path, vs: str, device: str, card: str | None, seconds: float) -> None:
    record = measured(model, vs, device, seconds)
    prediction, why = predicted(model, choose.gpu_state()[1], card)
    ours = next(row["milliseconds"] for row in record["rows"] if row["contender"] == "gpucnn")
    for row in record["rows"]:
        click.echo(f"{model}, {row['contender']}: {row['milliseconds']} ms{' ' + row['note'] if row['note'] else ''}")
    ratio = None
    if prediction is not None and ours is not None:
        ratio = 1e3 * ours / prediction["predicted_us_per_step"]
        click.echo(
            f"{model}, predicted for {prediction['card']}: {prediction['predicted_us_per_step'] / 1e3:.3f} ms "
            f"± {prediction['tolerance']:.0%}; measured / predicted = {ratio:.2f}"
        )
    if why is not None:
        click.echo(f"{model}, not predicted: {why}")
    record |= {"predicted": prediction, "measured_by_predicted": ratio, "why": why}
    make_folder(out)
    write_atomically(out / f"step-{model}.json", (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
