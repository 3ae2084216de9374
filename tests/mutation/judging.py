"""The parent of the processes that run mutants: the verdict on each mutant."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from .mutants import Mutant
from .sources import Sources
from .trying import NamedTrial, serve
from .uncaught import EQUIVALENT, SURVIVORS


class Worker:
    """A process with a bench; it is replaced when it hangs or dies, and after `MOST` questions."""

    MOST = 60

    def __init__(self, folder: Path, sources: Sources, limit: float) -> None:
        self.folder, self.sources, self.limit = folder, sources, limit
        self.process: Any = None
        self.passed: dict[NamedTrial, bool] = {}

    def judged(self, number: int, mutant: Mutant) -> Mutant:
        """The mutant with its verdict."""
        start = time.perf_counter()
        state, how, report, trial = self.answer("judge", number, mutant)
        if state == "caught" and trial is not None:
            if trial not in self.passed:
                self.passed[trial] = self.answer("original", trial)[0] == "passed"
            if not self.passed[trial]:
                state, how = "invalid", "the original fails too"
        where = f"{trial}: " if state == "caught" and how in ("timeout", "crash") else ""
        key = mutant.file, mutant.function, mutant.changed
        if state == "survived" and key in EQUIVALENT:
            state, how, report = "equivalent", "by hand", EQUIVALENT[key]
        elif state == "survived":
            report = SURVIVORS.get(key, report)
        shutil.rmtree(self.folder / f"mutant_{number}", ignore_errors=True)
        return replace(
            mutant, state=state, how=how, report=(where + report)[:400], seconds=round(time.perf_counter() - start, 2)
        )

    def answer(self, *question: Any) -> tuple[str, str, str, NamedTrial | None]:
        """(state, how, report, trial) for a question; a trial that takes too long is killed."""
        if self.process is None or self.questions >= self.MOST:
            self.close()
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            cache = str(self.folder / "cache")
            arguments = theirs, cache, str(self.folder), self.sources
            self.process = context.Process(target=serve, args=arguments, daemon=True)
            self.process.start()
            theirs.close()
            self.questions = 0
        self.questions += 1
        self.connection.send(question)
        trial = question[1] if question[0] == "original" else None
        limit = 120.0
        while True:
            try:
                if not self.connection.poll(limit):
                    self.close()
                    return "caught", "timeout", f"no answer within {limit:g} s", trial
                answer = self.connection.recv()
            except EOFError:
                self.close()
                return "caught", "crash", "the process died", trial
            if answer[0] == "done":
                return *answer[1:], trial
            trial = answer[1] or trial
            limit = self.limit if answer[1] else 300.0

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def run(
    chosen: list[Mutant], sources: Sources, *, jobs: int = 1, limit: float = 30.0, done: Callable = lambda m: None
) -> list[Mutant]:
    """Judge mutants, `jobs` at a time; `done` is called with each."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        workers = [Worker(Path(folder), sources, limit) for _ in range(jobs)]

        def work(number: int) -> list[tuple[int, Mutant]]:
            results = []
            for i in range(number, len(chosen), jobs):
                judged = workers[number].judged(i, chosen[i])
                done(judged)
                results.append((i, judged))
            workers[number].close()
            return results

        with ThreadPoolExecutor(jobs) as pool:
            results = [r for part in pool.map(work, range(jobs)) for r in part]
    return [mutant for _, mutant in sorted(results, key=lambda r: r[0])]
