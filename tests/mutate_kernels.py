"""Does the check of GPU kernels find faults? Kernels are broken on purpose, one small change each.

    python tests/mutate_kernels.py                                    # a sample of every file
    python tests/mutate_kernels.py --pattern pool2d/ --per-file 40    # more of one family

A mutant is a copy of `kernels/` with one change: an operator, a comparison, a constant, a barrier
or a guard taken away, operands or axes exchanged. It runs in the emulator in a separate process, on
the cases of its ops that reach the change: in check mode up to 1 MFLOP, then in fast mode up to 50
MFLOP, as in the tests, until something is reported. The original must pass the trial that catches a
mutant. If nothing is reported, both are compiled for a GPU: a mutant with the same machine code as
the original has no fault.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
from mutation.judging import run
from mutation.mutants import Mutant, mutants, sample
from mutation.operators import KINDS
from mutation.report import tables, write
from mutation.sources import Sources
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


@click.command()
@click.option("--per-file", default=4, show_default=True, help="Mutants of each file.")
@click.option("--seed", default=1, show_default=True, help="Chooses the sample.")
@click.option("--pattern", default="", help="Only files whose path contains this, such as pool2d/ or include/sum.")
@click.option("--kind", type=click.Choice(KINDS), help="Only changes of this kind.")
@click.option("--jobs", default=1, show_default=True, help="Processes at a time.")
@click.option(
    "--limit", default=30.0, show_default=True, help="Seconds for one trial; a mutant that takes longer is caught."
)
@click.option("--json", "record", type=click.Path(path_type=Path), help="Write all results here, and a .md next to it.")
def main(
    per_file: int, seed: int, pattern: str, kind: str | None, jobs: int, limit: float, record: Path | None
) -> None:
    """Break kernels on purpose and count how many of the changes are reported."""
    sources = Sources.read()
    chosen: list[Mutant] = []
    for file in sources.mutable():
        if pattern in file:
            candidates = [m for m in mutants(file, sources.texts[file]) if kind in (None, m.kind)]
            chosen += sample(candidates, per_file, seed)
    if not chosen:
        raise click.ClickException(f"no kernel file for GPUs matches {pattern!r}")
    console, start = Console(), time.perf_counter()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("mutants", total=len(chosen))

        def done(m: Mutant) -> None:
            progress.advance(task)
            if m.state in ("survived", "invalid"):
                line = f"{m.state} {m.how} {m.file}:{m.line} [{m.kind}] {m.code}  →  {m.changed}"
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        results = run(chosen, sources, jobs=jobs, limit=limit, done=done)
    for _, names, rows in tables(results):
        table = Table(*names)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if record:
        minutes = round((time.perf_counter() - start) / 60, 1)
        write(record, results, per_file=per_file, seed=seed, pattern=pattern, jobs=jobs, minutes=minutes)


if __name__ == "__main__":
    main()
