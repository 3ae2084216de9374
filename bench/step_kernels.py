"""How long each kernel of a training step takes on the GPU of this machine, as CUPTI sees it.

    python bench/step_kernels.py slides mlearning:tf32 --out bench/results/nvidia-h100-80gb-hbm3/step-kernels.json

Graphs of 16 steps are replayed twice while PyTorch's profiler looks on. Written, in microseconds: of each
model and precision the median from the start of a step to that of the next, with 10th and 90th percentile,
and how long two kernels run at once; of each kernel, in the order in which they start, medians of its start in
the step, its time, and the gap behind it, in which none runs.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpucnn.devices import branches, choose
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
    spans = [{key: span for (key, _), span in zip(named(step[:-1]), gaps(step), strict=True)} for step in steps]
    kernels = []
    for key, event in named(steps[-1][:-1]):
        of_steps = [span[key] for span in spans if key in span]
        starts_at, lasts, gap = (float(np.median(values)) for values in zip(*of_steps, strict=True))
        arguments = event.get("args", {})
        kernels.append(
            {
                "kernel": event["name"],
                "grid": arguments.get("grid"),
                "block": arguments.get("block"),
                "registers": arguments.get("registers per thread"),
                "shared_bytes": arguments.get("shared memory"),
                "at_us": round(starts_at, 2),
                "us": round(lasts, 2),
                "gap_us": round(gap, 2),
            }
        )
    kernels.sort(key=lambda kernel: kernel["at_us"])
    overlap = np.median([sum(us + gap for _, us, gap in span.values()) for span in spans]) - median
    times = {"us_per_step": median, "low": low, "high": high, "overlap_us": overlap}
    return {name: round(float(value), 1) for name, value in times.items()} | {"kernels": kernels}


def named(events: list[dict[str, Any]]) -> list[tuple[tuple[str, int], dict[str, Any]]]:
    """Each with its name and how many of that name came before: branches of a graph start in any order."""
    names = [event["name"] for event in events]
    return [((name, names[:i].count(name)), event) for i, (name, event) in enumerate(zip(names, events, strict=True))]


def gaps(step: list[dict[str, Any]]) -> list[tuple[float, float, float]]:
    """(start, time, how long none runs before the next one starts) of all kernels of a step but the last, with
    which the next step begins."""
    spans, end = [], step[0]["ts"]
    for event, following in itertools.pairwise(step):
        end = max(end, event["ts"] + event["dur"])
        spans.append((event["ts"] - step[0]["ts"], event["dur"], max(0.0, following["ts"] - end)))
    return spans


@click.command(help=__doc__)
@click.argument("steps", nargs=-1, required=True, metavar="MODEL[:PRECISION]...")
@click.option("--branches", "also", is_flag=True, help="Also with branches in the graph (GPUCNN_BRANCHES=1).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of the record.")
def main(steps: tuple[str, ...], also: bool, out: Path) -> None:
    record: dict[str, Any] = {
        "device": choose.gpu_state()[1],
        "versions": records.versions(),
        "commit": records.commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "how": "CUPTI, by PyTorch's profiler, while graphs of 16 steps are replayed",
        "steps": [],
    }
    make_folder(out.parent)
    for name, aside in itertools.product(steps, (False, True) if also else (False,)):
        model, _, precision = name.partition(":")
        problem = rivals.Problem.random(model, "gpu", BATCHES, None, precision or FLOAT32)  # type: ignore[arg-type]
        with branches.on() if aside else nullcontext():
            has_branches = branches.is_enabled()
            found = kernels_of(trace(rivals.gpucnn_maker(problem, "cuda")(True)))
        about = {"model": model, "precision": problem.precision, "branches": has_branches}
        record["steps"].append(about | found)
        write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())
        how = "with" if has_branches else "without"
        click.echo(
            f"{model}, {problem.precision}, {how} branches: {found['us_per_step']} µs a step, {found['overlap_us']} µs "
            f"of them with two kernels at once, {len(found['kernels'])} kernels"
        )


if __name__ == "__main__":
    main()
