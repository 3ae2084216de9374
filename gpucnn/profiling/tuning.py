"""The fastest kernel for a call, measured on this machine and kept for later processes.

What `use(tune=...)` and `--tune` switch on. Where several kernels serve a call, each is checked on its
operands and timed. The static choice computes the call unless another kernel is faster by more than the
noise of such short measurements.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import places
from ..devices import choose, storage, threads
from ..dispatch import choice, precision, tape
from ..dispatch.case import Case, Draw, Given, Spec, real
from ..dispatch.check import disagreement
from ..dispatch.op import Kernel, Op
from ..errors import KernelError, warn
from ..files import write_atomically
from . import records, timing
from .benchmark import Call

_GAIN = 0.05
"""A kernel takes the place of the static choice if it needs so much less time."""

_EFFORTS = {"fast": timing.Effort(5, 0.02, 0.1, 0.3), "full": timing.Effort(timeout=2.0)}


@dataclass(frozen=True)
class Decision:
    """Which kernel computes a call.

    static  the algorithm that is chosen without measuring
    taken   that of the kernel that computes the call
    found   by algorithm, seconds of a call, or what is wrong with the kernel
    """

    op: str
    operands: tuple[Spec | None, ...]
    static: str
    taken: str
    found: dict[str, float | str]


decisions: dict[str, Decision] = {}
"""Those of this process, by call."""

_kept: dict[Path | None, dict[str, dict[str, float | str]]] = {}
"""For each file, by call: the seconds of each kernel, or what is wrong with it."""


def summary() -> str:
    """How the kernels of this process were chosen, in one line."""
    if not decisions:
        return "no call is served by several kernels"
    changed = sum(one.taken != one.static for one in decisions.values())
    kept = f"; times in {_file()}" if _file() else ""
    return f"{changed} of {len(decisions)} calls by another kernel than without --tune{kept}"


def fastest(op: Op, chosen: Kernel, arrays: tuple, params: dict[str, Any]) -> Kernel:
    """The kernel that computes a call the fastest; `chosen` is the static choice."""
    by_name = op.name in choice.algorithms() or (op.gradient_of and op.gradient_of.name in choice.algorithms())
    if by_name or op.inplace or tape.recording() is not None:
        return chosen
    specs = tuple(None if a is None else Spec(tuple(a.shape), np.dtype(a.dtype)) for a in arrays)
    candidates = _candidates(op, chosen.backend, specs, params)
    if len(candidates) < 2:
        return chosen
    file, key = _file(), _key(op, specs, params)
    if file not in _kept:
        _kept[file] = _read(file)
    known = _kept[file]
    if not candidates.keys() <= known.get(key, {}).keys():
        draws = [None if a is None else _draw(a) for a in arrays]
        known[key] = _measured(candidates, Case("the call", tuple(draws), params))
        _write(file, key, known[key])
    seconds = {name: found for name, found in known[key].items() if name in candidates and not isinstance(found, str)}
    own, best = chosen.algorithm, min(seconds, key=seconds.__getitem__, default=chosen.algorithm)
    taken = best if seconds.get(best, 0.0) < (1 - _GAIN) * seconds.get(own, math.inf) else own
    decisions[key] = Decision(op.name, specs, own, taken, known[key])
    return candidates[taken]


def _draw(array: Any) -> Draw:
    """Real numbers like those of the cases of ops; integers, which count or choose something, as they are."""
    return real(*array.shape, dtype=array.dtype.name) if array.dtype.kind == "f" else Given.of(storage.get(array))


def _candidates(op: Op, backend: str, specs: tuple[Spec | None, ...], params: dict[str, Any]) -> dict[str, Kernel]:
    """The kernels among which is chosen, by algorithm."""
    return {
        kernel.algorithm: kernel
        for kernel in op.kernels((backend,)).values()
        if (choice.tuning() == "full" or kernel.algorithm in op.prefer)
        and (not op.factors or not precision.is_as_stated() or precision.in_force() in kernel.precisions)
        and kernel.serves(specs, params)
        and all(math.prod(spec.shape) < 1 << 31 for spec in kernel.scratch(specs, params))
    }


def _measured(candidates: dict[str, Kernel], case: Case) -> dict[str, float | str]:
    """For each kernel the seconds of a call, or what is wrong with it."""
    clock, effort = timing.clock_of_device(), _EFFORTS[choice.tuning()]
    found: dict[str, float | str] = {}
    for name, kernel in candidates.items():
        try:
            fault = disagreement(kernel, case)
            found[name] = fault or timing.measure_hot(Call(kernel, case).run, effort, clock).median
        except KernelError as error:
            found[name] = f"{kernel.id}: {error}"
        if isinstance(found[name], str):
            warn(f"not chosen: {found[name]}")
    return found


def _key(op: Op, specs: tuple[Spec | None, ...], params: dict[str, Any]) -> str:
    operands = [None if spec is None else [list(spec.shape), spec.dtype.name] for spec in specs]
    return json.dumps([op.name, operands, sorted(params.items()), precision.in_force(), threads.in_use()])


def _file() -> Path | None:
    """Where the choices for the device in use are kept; None if nothing can be kept."""
    folder = places.cache_folder("tuning")
    return folder and folder / f"{_fingerprint(choose.selected().name)}.json"


_fingerprint = cache(records.fingerprint)


def _read(file: Path | None) -> dict[str, dict[str, float | str]]:
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):  # missing or damaged: measured again
        return {}


def _write(file: Path | None, key: str, found: dict[str, float | str]) -> None:
    """Add the times of a call to a file, to which other processes may have written."""
    if file is not None:
        write_atomically(file, json.dumps(_read(file) | {key: found}, indent=1).encode())
