"""The training step of the course models on one GPU: gpucnn compared with PyTorch and JAX.

    python bench/competitors.py --out bench/results/h100/competitors --model slides
    python bench/competitors.py --out /tmp/dry --model slides --dry-run

Each combination (model, contender, precision) runs in a new process and leaves one JSON file,
written atomically as soon as it is complete. Combinations that have a file are skipped, so that a
stopped run can be resumed. A step is forward, loss, backward and update, on batches that are
already on the device for all contenders; several batches take turns. Before anything is timed, the
losses of the first steps, from equal weights and with dropout off, must agree with those of gpucnn
on the CPU. Compilation, capture and the first steps are recorded separately as `prepare_seconds`.

The losses stay on the device until the last of the batches; with gpucnn-cuda-eager the host waits
for the loss in each step. gpucnn also gathers its batches on the device, as in `fit`, and computes
in float32. The others
run both in float32 and with TF32, which rounds operands to 10 bits.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from contenders import Absent, Budget, Combination, Loop, has_dropout, makers

from gpucnn.devices import choose
from gpucnn.devices.emulator import driver
from gpucnn.dispatch.precision import PRECISIONS
from gpucnn.files import write_atomically
from gpucnn.profiling import records
from gpucnn.runs import zoo
from gpucnn.runs.rivals import agree
from gpucnn.runs.step import OPTIMIZERS

MODELS = ("slides", "mlearning", "keras-intro", "torres", "cifar")
CONTENDERS = (
    "gpucnn-cuda",
    "gpucnn-numba",
    "gpucnn-cuda-eager",
    "torch-eager",
    "torch-compile",
    "torch-graph",
    "jax-scan",
)
ABOUT = {
    "gpucnn-njit": "train step, layer by layer, on the CPU",
    "gpucnn-cuda": "train step as a CUDA graph, kernels in CUDA C++",
    "gpucnn-numba": "train step as a CUDA graph, kernels in numba.cuda",
    "gpucnn-cuda-eager": "train step launched from Python, kernels in CUDA C++",
    "torch-eager": "eager, fused optimizer, cuDNN benchmark mode",
    "torch-compile": "forward, loss and backward by torch.compile(mode='max-autotune'), fused optimizer",
    "torch-graph": "all steps, with a capturable optimizer, in one CUDA graph",
    "jax-scan": "all steps in one jit(scan)",
}


# -- one combination, in a new process ---------------------------------------------------------------------------------


def measure(combination: Combination, budget: Budget, expected: list[float]) -> dict[str, Any]:
    """The measured entries of the record. Raises `Absent`, or any error of the contender."""
    variants = []
    ways = makers(combination, budget)
    for make in ways:
        gc.collect()
        begin = time.perf_counter()
        loop = make(False)
        losses = loop.losses(loop.run())
        difference = agree(losses, expected, combination.precision)
        variant = {**loop.notes, "losses": losses, "loss_difference": difference, "milliseconds": None}
        if loop.notes["device"] != "emulator":
            if has_dropout(combination.model):
                loop = make(True)
                loop.losses(loop.run())
            variant["prepare_seconds"] = time.perf_counter() - begin
            variant["milliseconds"] = timed(loop, len(losses), budget, budget.limit / len(ways))
        else:
            variant["prepare_seconds"] = time.perf_counter() - begin
        variants.append(variant)
    best = min(variants, key=lambda variant: variant["milliseconds"]["median"] if variant["milliseconds"] else 0.0)
    status = "timed" if best["milliseconds"] and not budget.dry else "checked"
    return {"status": status, **best, "variants": variants}


def timed(loop: Loop, steps: int, budget: Budget, limit: float) -> dict[str, float]:
    """Milliseconds of a step: percentiles over samples of one step on each batch."""
    loop.losses(loop.run())
    samples: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < limit and len(samples) < (3 if budget.dry else 1000):
        start = time.perf_counter()
        loop.losses(loop.run())
        samples.append((time.perf_counter() - start) / steps * 1e3)
    low, median, high = np.percentile(samples, [10, 50, 90])
    return {"median": float(median), "low": float(low), "high": float(high), "samples": len(samples)}


def reference(model: str, budget: Budget) -> list[float]:
    """The losses of the first steps by gpucnn on the CPU."""
    loop = makers(Combination(model, "gpucnn-njit", "float32"), budget)[0](False)
    return loop.losses(loop.run())


def in_this_process(combination: Combination, budget: Budget, out: Path) -> None:
    """Measure the combination and write its record."""
    outcome: dict[str, Any] = {"status": "failed", "why": None}
    try:
        if combination.contender == "reference":
            outcome = {"status": "checked", "why": None, "losses": reference(combination.model, budget)}
        else:
            expected = json.loads((out / f"{combination.model}-reference-float32.json").read_text())
            outcome |= measure(combination, budget, expected["losses"])
    except Absent as reason:
        outcome |= {"status": "absent", "why": str(reason)}
    except Exception as error:
        traceback.print_exc()
        outcome |= {"why": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    write(combination, budget, out, outcome)


def write(combination: Combination, budget: Budget, out: Path, outcome: dict[str, Any]) -> None:
    entry = zoo.find(combination.model)
    gpus, names = choose.gpu_state()
    record = {
        "model": combination.model,
        "contender": combination.contender,
        "precision": combination.precision,
        "about": ABOUT.get(combination.contender, "gpucnn on the CPU: the losses that the others must match"),
        "batch_size": budget.batch_size(entry),
        "optimizer": OPTIMIZERS[combination.model],
        "input": "resident on the device, several batches in turn",
        "dry_run": budget.dry,
        "limit_seconds": budget.limit,
        **outcome,
        "gpu": names if gpus else None,
        "versions": records.versions(),
        "commit": records.commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(out / f"{combination}.json", (json.dumps(record, indent=1) + "\n").encode())


# -- all combinations --------------------------------------------------------------------------------------------------


def combinations(models: Sequence[str], contenders: Sequence[str], dry: bool) -> list[Combination]:
    """All rows, model by model."""
    rows = []
    for model in models:
        if dry and "gpucnn-cuda" in contenders:
            rows.append(Combination(model, "gpucnn-njit", "float32"))
        for contender in contenders:
            alone = contender.startswith("gpucnn-numba")
            precisions = PRECISIONS[:1] if alone else PRECISIONS[:2]
            rows += [Combination(model, contender, precision) for precision in precisions]
    return rows


def in_a_process(combination: Combination, budget: Budget, out: Path, prepare: float, ends: float) -> bool:
    """Run a combination in a new process; if it dies or takes too long, record that.

    Returns False if the deadline came first, which leaves no record.
    """
    command = [
        sys.executable,
        __file__,
        "--out",
        str(out),
        "--limit",
        str(budget.limit),
        "--only-this",
        str(combination),
    ]
    allowed = prepare + budget.limit + 30
    left = ends - time.monotonic()
    try:
        done = subprocess.run(
            [*command, *(["--dry-run"] if budget.dry else [])],
            timeout=min(allowed, left),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        why = f"ended with status {done.returncode}: {done.stderr.strip()[-300:]}"
        if done.returncode == 0:
            return True
    except subprocess.TimeoutExpired:
        if left < allowed:
            return False
        why = f"took more than {allowed:.0f} s"
    write(combination, budget, out, {"status": "failed", "why": why})
    return True


def record_at(path: Path) -> dict[str, Any] | None:
    """The record, or None if there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def show(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "contender", "precision", "batch", "ms/step", "10 … 90 %", "prepared in", "", box=None)
    for r in rows:
        ms, remark = r.get("milliseconds"), r["why"] or ("dry run: no time" if r["dry_run"] else "")
        times = (f"{ms['median']:.3f}", f"{ms['low']:.3f} … {ms['high']:.3f}") if ms else ("", "")
        prepared = f"{r['prepare_seconds']:.1f} s" if "prepare_seconds" in r else ""
        remark = f"{r['status']}: {remark}" if remark else r["status"]
        table.add_row(r["model"], r["contender"], r["precision"], str(r["batch_size"]), *times, prepared, remark)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the records.")
@click.option("--model", "models", multiple=True, type=click.Choice(MODELS), help="Only this model; repeatable.")
@click.option(
    "--contender", "contenders", multiple=True, type=click.Choice(CONTENDERS), help="Only this contender; repeatable."
)
@click.option("--limit", type=float, help="Seconds of measuring per combination.  [default: 60, dry run: 5]")
@click.option(
    "--prepare", default=240.0, show_default=True, help="Seconds allowed for compilation and the first steps."
)
@click.option("--deadline", type=float, help="Stop cleanly within this many seconds; the next call resumes.")
@click.option("--again", is_flag=True, help="Also repeat combinations that failed before.")
@click.option(
    "--dry-run",
    "dry",
    is_flag=True,
    help="Try everything on the CPU and in the emulator, with two images and two steps.",
)
@click.option("--only-this", hidden=True)
def main(
    out: Path,
    models: tuple[str, ...],
    contenders: tuple[str, ...],
    limit: float | None,
    prepare: float,
    deadline: float | None,
    again: bool,
    dry: bool,
    only_this: str | None,
) -> None:
    budget = Budget(dry, limit or (5.0 if dry else 60.0))
    planned = combinations(models or MODELS, contenders or CONTENDERS, dry)
    if only_this is not None:
        references = [Combination(model, "reference", "float32") for model in MODELS]
        by_name = {str(c): c for c in [*references, *combinations(MODELS, CONTENDERS, dry)]}
        return in_this_process(by_name[only_this], budget, out)
    if driver.running() and not dry:
        raise click.ClickException("the GPU is emulated and its times mean nothing; --dry-run tries everything")
    if not dry and not choose.gpu_state()[0]:
        raise click.ClickException(f"no GPU: {choose.gpu_state()[1]}; --dry-run tries everything without one")
    out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + (deadline or float("inf"))
    done = []
    for combination in [c for m in dict.fromkeys(p.model for p in planned) for c in with_reference(m, planned)]:
        path = out / f"{combination}.json"
        record = record_at(path)
        if record is None or record["dry_run"] != dry or (again and record["status"] == "failed"):
            click.echo(f"{combination} …", err=True)
            if not in_a_process(combination, budget, out, prepare, ends):
                show(done)
                click.echo("stopped at the deadline: run again to resume", err=True)
                sys.exit(75)
            record = record_at(path)
        if record is not None and combination.contender != "reference":
            done.append(record)
    show(done)
    failed = [f"{r['model']}-{r['contender']}-{r['precision']}" for r in done if r["status"] == "failed"]
    if failed or len(done) < len(planned):
        click.echo(f"failed: {', '.join(failed) or 'no record was written'}", err=True)
        sys.exit(1)


def with_reference(model: str, planned: Sequence[Combination]) -> list[Combination]:
    """The combinations of a model, the reference first, with which the others are compared."""
    return [Combination(model, "reference", "float32"), *(c for c in planned if c.model == model)]


if __name__ == "__main__":
    main()
