"""Mutants: all of a source file, and a sample of them in which rare kinds occur."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from itertools import zip_longest

from .cpp import sites_in_cpp
from .numba_code import sites_in_python
from .operators import KINDS


@dataclass(frozen=True)
class Mutant:
    """One change: `text[begin:end]` becomes `after`. `Worker.judged` fills in the verdict."""

    file: str
    function: str
    line: int
    kind: str
    begin: int
    end: int
    before: str
    after: str
    code: str = ""
    changed: str = ""
    state: str = ""
    how: str = ""
    report: str = ""
    seconds: float = 0.0

    @property
    def language(self) -> str:
        """The language of the file: "numba" or "cuda"."""
        return "numba" if self.file.endswith(".py") else "cuda"


def mutants(file: str, text: str) -> list[Mutant]:
    """All mutants of a source file, in the order of their places."""
    find = sites_in_python if file.endswith(".py") else sites_in_cpp
    all_mutants = []
    for function, kind, begin, end, after in sorted(set(find(text)), key=lambda site: site[2:]):
        first = text.rfind("\n", 0, begin) + 1
        last = text.find("\n", end)
        last = len(text) if last < 0 else last
        code = " ".join(text[first:last].split())
        changed = " ".join((text[first:begin] + after + text[end:last]).split())
        line = text.count("\n", 0, begin) + 1
        all_mutants.append(Mutant(file, function, line, kind, begin, end, text[begin:end], after, code, changed))
    return all_mutants


def sample(all_mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` mutants of a file, the kinds in turn, so that rare kinds occur."""
    if not all_mutants:
        return []
    order = random.Random(seed ^ zlib.crc32(all_mutants[0].file.encode()))
    kinds = [[m for m in all_mutants if m.kind == kind] for kind in KINDS]
    for group in kinds:
        order.shuffle(group)
    order.shuffle(kinds)
    turns = [m for row in zip_longest(*kinds) for m in row if m is not None]
    return turns[:count]
