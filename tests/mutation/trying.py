"""The process that runs mutants."""

from __future__ import annotations

import importlib
import os
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .mutants import Mutant
from .sources import COMMON, Sources

SEED_OF_THREADS = 3
"""The order of threads in fast mode, as in tests/kernels/test_agreement.py."""


@dataclass(frozen=True)
class NamedTrial:
    """A kernel on a case in a mode of the emulator, all by name, so that it can be sent to another
    process."""

    user: str
    op: str
    case: str
    mode: str

    def __str__(self) -> str:
        return f"{self.user.removesuffix('.py')} {self.op} {self.case} {self.mode}"


def serve(connection: Any, cache: str, folder: str, sources: Sources) -> None:
    """Answer the parent's questions: ("judge", number, mutant) or ("original", trial)."""
    os.environ["GPUCNN_CACHE"] = cache
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    bench = Bench(Path(folder), sources)
    while True:
        question = connection.recv()
        if question[0] == "judge":
            bench.judge(connection.send, *question[1:])
        else:
            connection.send(("done", *bench.original(question[1])))


class Bench:
    """Loads copies of kernels and runs their trials."""

    def __init__(self, folder: Path, sources: Sources) -> None:
        from gpucnn.profiling import trials

        trials.every_kernel("", ("cuda", "numba"))  # else the originals would replace the mutants later
        self.folder, self.sources = folder, sources
        self.originals: dict[str, dict[str, Any]] = {}

    def judge(self, send: Callable, number: int, mutant: Mutant) -> None:
        """Send each trial before it starts, and finally the verdict."""
        from gpucnn.errors import KernelError

        try:
            users = self.sources.users(mutant.file)
            loaded = {user: self.load(f"mutant_{number}", user, mutant) for user in users}
            reach = {user: self.sources.entries(user, mutant.function) for user in users}
            trials = [t for user in users for t in self.trials(user, loaded[user], reach[user])]
            if not trials:  # a function that is passed as a value is called under another name
                reach = {user: set() for user in users}
                trials = [t for user in users for t in self.trials(user, loaded[user], set())]
            for trial in sorted(trials, key=lambda t: {"check": 0, "fast": 1}[t.mode]):
                send(("trial", trial))
                fault = self.run(loaded[trial.user][trial.op], trial)
                if fault and _NOT_COMPILED in fault:
                    return send(("done", "invalid", "does not compile", fault[-600:]))
                if fault:
                    return send(("done", "caught", _kind_of(fault), fault))
            send(("trial", None))
            same = all(self.same_code(user, loaded[user], reach[user]) for user in users)
            return send(("done", "equivalent" if same else "survived", "same machine code" if same else "", ""))
        except Exception as error:  # a mutant may break anything
            expected = isinstance(error, KernelError) or type(error).__module__.startswith(("numba", "gpucnn"))
            how = "does not compile" if expected else "fails"
            return send(("done", "invalid", how, f"{type(error).__name__}: {error}"[-600:]))

    def original(self, trial: NamedTrial) -> tuple[str, str, str]:
        """The verdict on the unchanged kernel."""
        if trial.user not in self.originals:
            self.originals[trial.user] = self.load("original", trial.user, None)
        fault = self.run(self.originals[trial.user][trial.op], trial)
        return ("caught", _kind_of(fault), fault) if fault else ("passed", "", "")

    def load(self, name: str, user: str, mutant: Mutant | None) -> dict[str, Any]:
        """Import a kernel file from a changed copy of the sources; returns its kernels by op."""
        from gpucnn.dispatch.op import declared

        root = self.folder / name
        needed = {user, user.replace(".py", ".cu"), *(n for n in self.sources.texts if n.startswith(COMMON))}
        for file in needed & self.sources.texts.keys():
            text = self.sources.texts[file]
            if mutant is not None and file == mutant.file:
                text = text[: mutant.begin] + mutant.after + text[mutant.end :]
            places = {root / file}
            if file.endswith(".cuh"):  # a header next to the .cu takes precedence over the one in include/
                places |= {(root / source).parent / Path(file).name for source in (user, "shared/source")}
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(root)]
            sys.modules[name] = package
        importlib.invalidate_caches()
        module = importlib.import_module(f"{name}.{user.removesuffix('.py').replace('/', '.')}")
        own = [k for op in declared().values() for k in op.kernels().values()]
        return {k.op.name: k for k in own if k.file == Path(str(module.__file__))}

    def trials(self, user: str, kernels: dict[str, Any], reach: set[str]) -> list[NamedTrial]:
        """The trials that launch one of these functions (all trials if none is given): the smallest
        case of each op first, but in fast mode the large cases first, as the others have passed in
        check mode."""
        from gpucnn.dispatch.check import cases_for
        from gpucnn.profiling import launches, trials

        check, large, small = [], [], []
        for kernel in kernels.values():
            cases = sorted(cases_for(kernel), key=lambda c: trials.work(kernel.op, c))
            cases = [c for c in cases if trials.work(kernel.op, c) <= trials.AFFORDABLE["fast"]]
            if reach:
                cases = [c for c in cases if any(i.function.name in reach for i in launches.launches(kernel, c))]
            cheap = [trials.work(kernel.op, c) <= trials.AFFORDABLE["check"] for c in cases]
            name = kernel.op.name
            check.append([NamedTrial(user, name, c.name, "check") for c, ok in zip(cases, cheap, strict=True) if ok])
            large.append([NamedTrial(user, name, c.name, "fast") for c, ok in zip(cases, cheap, strict=True) if not ok])
            small.append([NamedTrial(user, name, c.name, "fast") for c, ok in zip(cases, cheap, strict=True) if ok])
        return [t for group in (check, large, small) for row in zip_longest(*group) for t in row if t is not None]

    def run(self, kernel: Any, trial: NamedTrial) -> str | None:
        """Run one trial; returns the fault, if there is one."""
        from gpucnn.dispatch.check import disagreement
        from gpucnn.errors import CompileError
        from gpucnn.profiling import trials

        case = next(c for c in kernel.op.cases if c.name == trial.case and not c.bench)
        with trials.running("emulator", trial.mode, **({"seed": SEED_OF_THREADS} if trial.mode == "fast" else {})):
            try:
                return disagreement(kernel, case)
            except CompileError as error:
                return str(error)

    def same_code(self, user: str, kernels: dict[str, Any], reach: set[str]) -> bool:
        """Whether mutant and original compile to the same machine code for a GPU, in all variants
        in use."""
        from gpucnn.dispatch.check import cases_for
        from gpucnn.profiling import launches

        if user not in self.originals:
            self.originals[user] = self.load("original", user, None)
        codes: list[dict] = [{}, {}]
        for code, kernels_of in zip(codes, (kernels, self.originals[user]), strict=True):
            for kernel in kernels_of.values():
                for case in cases_for(kernel):
                    for launch in launches.launches(kernel, case):
                        if not reach or launch.function.name in reach:
                            key = _variant(launch.function, list(launch.arguments))
                            code[key] = code.get(key) or _machine_code(launch.function, list(launch.arguments))
        return codes[0] == codes[1]


def _variant(function: Any, arguments: list) -> str:
    return (
        repr(sorted(function.defines.items()))
        if hasattr(function, "defines")
        else f"{function.name}{function.signature(arguments)}"
    )


def _machine_code(function: Any, arguments: list) -> bytes:
    """A cubin of CUDA C++; of a numba kernel its PTX without line numbers, and names without that
    of the module."""
    from gpucnn.devices.nvrtc import compile_cuda

    if hasattr(function, "defines"):
        return compile_cuda(function.source(), "kernel.cu", function.defines, arch="sm_90").cubin
    text, _ = function.ptx(function.signature(arguments), (8, 0))
    lines = text.partition(".section")[0].splitlines()
    text = "\n".join(line for line in lines if not line.strip().startswith((".loc", ".file", "//")))
    names: dict[str, str] = {}
    return re.sub(r"\b_(?:Z|cudapy)\w+", lambda m: names.setdefault(m[0], f"name{len(names)}"), text).encode()


_NOT_COMPILED = "cannot be compiled"
_WORDS = (
    ("data race", "race"),
    ("outside of every array", "bounds"),
    ("out of bounds", "bounds"),
    ("where there is no memory", "bounds"),
    ("writes outside of", "bounds"),
    ("writes into its operand", "bounds"),
    ("uninitialised", "uninitialised"),
    ("is nan, expected", "not written"),
    ("misaligned", "misaligned"),
    ("__syncthreads", "barrier"),
    ("waits in", "barrier"),
    ("warp operation", "barrier"),
    ("two launches differ", "not deterministic"),
    ("divides an integer by zero", "division by zero"),
)


def _kind_of(fault: str) -> str:
    return next((kind for words, kind in _WORDS if words in fault), "wrong value")
