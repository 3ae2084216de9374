"""How long each kernel of a training step takes on the GPU of this machine, as CUPTI sees it.

    python bench/step_kernels.py slides mlearning:tf32 --out bench/results/nvidia-h100-80gb-hbm3/step-kernels.json

Graphs of 16 steps are replayed twice while PyTorch's profiler looks on. Written, in microseconds: of each
model and precision the median from the start of a step to that of the next, with 10th and 90th percentile,
and of each kernel its median and that of the gap behind it.
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpucnn.devices import choose
from gpucnn.dispatch.precision import FLOAT32
from gpucnn.files import make_folder, write_atomically
from gpucnn.profiling import records
from gpucnn.runs import rivals
from gpucnn.runs.step_race import BATCHES

FIRST = "gather"
"""How the names of the kernels begin that a step begins with."""


def trace(loop: rivals.Loop) -> list[dict[str, Any]]:
    """What the GPU does in two runs of a loop, in order."""
    import torch

    torch.zeros(1, device="cuda")
    loop.losses(loop.run())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(2):
            loop.losses(loop.run())
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    return sorted((e for e in events if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")), key=lambda e: e["ts"])


def kernels_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The times of a step, and of its kernels, from the steps that have the usual number of kernels."""
    starts = [
        i
        for i, event in enumerate(events)
        if event["name"].startswith(FIRST) and (i == 0 or not events[i - 1]["name"].startswith(FIRST))
    ]
    lengths = np.diff(starts)
    usual = int(np.bincount(lengths).argmax())
    steps = [
        events[start : start + usual + 1] for start, length in zip(starts, lengths, strict=False) if length == usual
    ]
    low, median, high = np.percentile([step[-1]["ts"] - step[0]["ts"] for step in steps], [10, 50, 90])
    kernels = []
    for i, event in enumerate(steps[-1][:-1]):
        gaps = [step[i + 1]["ts"] - step[i]["ts"] - step[i]["dur"] for step in steps]
        arguments = event.get("args", {})
        kernels.append(
            {
                "kernel": event["name"],
                "grid": arguments.get("grid"),
                "block": arguments.get("block"),
                "registers": arguments.get("registers per thread"),
                "shared_bytes": arguments.get("shared memory"),
                "us": round(float(np.median([step[i]["dur"] for step in steps])), 2),
                "gap_us": round(float(np.median(gaps)), 2),
            }
        )
    times = {"us_per_step": median, "low": low, "high": high}
    return {name: round(float(value), 1) for name, value in times.items()} | {"kernels": kernels}


@click.command(help=__doc__)
@click.argument("steps", nargs=-1, required=True, metavar="MODEL[:PRECISION]...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of the record.")
def main(steps: tuple[str, ...], out: Path) -> None:
    record: dict[str, Any] = {
        "device": choose.gpu_state()[1],
        "versions": records.versions(),
        "commit": records.commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "how": "CUPTI, by PyTorch's profiler, while graphs of 16 steps are replayed",
        "steps": [],
    }
    make_folder(out.parent)
    for name in steps:
        model, _, precision = name.partition(":")
        problem = rivals.Problem.random(model, "gpu", BATCHES, None, precision or FLOAT32)  # type: ignore[arg-type]
        found = kernels_of(trace(rivals.gpucnn_maker(problem, "cuda")(True)))
        record["steps"].append({"model": model, "precision": problem.precision, **found})
        write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())
        click.echo(f"{model}, {problem.precision}: {found['us_per_step']} µs a step, {len(found['kernels'])} kernels")


if __name__ == "__main__":
    main()
