"""The results of a run as tables, JSON and Markdown."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .mutants import Mutant


def counts(results: Iterable[Mutant], key: Callable[[Mutant], str]) -> dict[str, Counter]:
    """How many mutants are in each state, by a key."""
    states: dict[str, Counter] = {}
    for m in results:
        states.setdefault(key(m), Counter())[m.state] += 1
    return dict(sorted(states.items()))


def share(states: Counter) -> float:
    """The share of valid mutants that are caught; equivalent ones and those that do not compile are
    not valid."""
    valid = states["caught"] + states["survived"]
    return states["caught"] / valid if valid else float("nan")


def tables(results: list[Mutant]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, rows) of each table that is shown and written."""
    states = ("caught", "survived", "equivalent", "invalid")
    for title, key in (
        ("language", lambda m: m.language),
        ("kind of change", lambda m: m.kind),
    ):
        rows = counts(results, key)
        rows["all"] = Counter(m.state for m in results)
        yield (
            title,
            [title, *states, "caught of valid"],
            [
                [n, *(str(c[s]) for s in states), f"{share(c):.1%}" if share(c) == share(c) else "–"]
                for n, c in rows.items()
            ],
        )
    how = Counter((m.how, m.language) for m in results if m.state == "caught")
    words = sorted({w for w, _ in how}, key=lambda w: -how[w, "cuda"] - how[w, "numba"])
    yield "caught by", ["caught by", "cuda", "numba"], [[w, str(how[w, "cuda"]), str(how[w, "numba"])] for w in words]


def markdown(results: list[Mutant], heading: str) -> str:
    """The results as Markdown."""

    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    out = [heading, ""]
    for _, columns, rows in tables(results):
        out += [row(columns), row(["---"] * len(columns)), *map(row, rows), ""]
    for state, title in (("survived", "Survivors"), ("equivalent", "Equivalent mutants")):
        rest = [m for m in results if m.state == state]
        out += [f"## {title}: {len(rest)}", ""]
        if rest:
            out += [row(["place", "kind", "code", "changed to", "why"]), row(["---"] * 5)]
            out += [
                row([f"{m.file}:{m.line}", m.kind, f"`{m.code}`", f"`{m.changed}`", m.report or m.how]) for m in rest
            ]
            out.append("")
    return "\n".join(out).rstrip() + "\n"


def write(record: Path, results: list[Mutant], **run_: Any) -> None:
    """Write all results as JSON, and next to it as Markdown the tables and the mutants that were
    not caught."""
    states = Counter(m.state for m in results)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    options = f"--per-file {run_['per_file']} --seed {run_['seed']}"
    heading = (
        f"# Mutants of the kernels for GPUs\n\n`python tests/mutate_kernels.py {options}`, {date}, in the emulator, "
        f"{run_['minutes']:.0f} minutes: {len(results)} mutants of {len({m.file for m in results})} files. Of "
        f"{states['caught'] + states['survived']} valid ones {states['caught']} are caught, {share(states):.1%}."
    )
    by = {"language": counts(results, lambda m: m.language), "kind": counts(results, lambda m: m.kind)}
    record.parent.mkdir(parents=True, exist_ok=True)
    content = {"date": date, **run_, "counts": by, "mutants": [asdict(m) for m in results]}
    record.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    record.with_suffix(".md").write_text(markdown(results, heading))
