"""What `competitors.py` compares, and how much of it: models, contenders and precisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpucnn.dispatch.precision import Precision
from gpucnn.runs import zoo
from gpucnn.runs.rivals import TORCH, Absent, Loop, Maker, Problem, gpucnn_maker, has_dropout, jax_maker, torch_maker

__all__ = ["Absent", "Budget", "Combination", "Loop", "has_dropout", "makers"]


@dataclass(frozen=True)
class Combination:
    """One row of the table."""

    model: str
    contender: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.model}-{self.contender}-{self.precision}"


@dataclass(frozen=True)
class Budget:
    """How much to measure: `limit` is in seconds; the times of a dry run mean nothing."""

    dry: bool
    limit: float

    @property
    def batches(self) -> int:
        return 2 if self.dry else 16

    def batch_size(self, entry: zoo.Entry) -> int:
        return 2 if self.dry else entry.training.batch_size


def makers(combination: Combination, budget: Budget) -> list[Maker]:
    """The variants of the combination, of which the fastest counts."""
    name, precision = combination.contender, combination.precision
    if budget.dry and precision == "tf32":
        raise Absent("TF32 needs a GPU")
    ours = name.startswith("gpucnn")
    where = "cpu" if name == "gpucnn-njit" else "gpu" if not budget.dry else "emulator" if ours else "cpu"
    size = budget.batch_size(zoo.find(combination.model))
    problem = Problem.random(combination.model, where, budget.batches, size, precision)
    if where == "emulator":
        problem = replace(problem, x=problem.x[:1], y=problem.y[:1])
    if ours:
        _, backend, *eager = name.split("-")
        return [gpucnn_maker(problem, backend, bool(eager))]
    if name == "jax-scan":
        return [jax_maker(problem)]
    how = "torch" if name == "torch-eager" else name
    assert how in TORCH
    formats = ("channels_last",) if budget.dry else ("channels_last", "contiguous_format")
    return [torch_maker(problem, how, memory_format) for memory_format in formats]
