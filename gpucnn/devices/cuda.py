"""Kernels of .cu files: includes and defines, argument types, and the launch.

conv2d_direct = cuda_function(__file__, "conv2d_direct", THREADS=256)   # of direct_cuda.cu
conv2d_direct[grid, block](y, x, weight, n, h)                          # compiled at first
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import places
from ..errors import ArgumentError, CompileError, KernelError
from . import choose
from .launch import GpuFunction
from .launchable import Geometry

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"[^\n]*$', re.MULTILINE)
_ENTRY = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)\s*\(([^)]*)\)'
)
_NOT_CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'""", re.DOTALL)
"""Comments, and quoted text."""

_BODY = re.compile(r"[{};]|^[ \t]*#[ \t]*(?:if|el|end)", re.MULTILINE)
"""What ends a declaration, or the body of a function unless the preprocessor chooses parts of it."""

_ERROR = re.compile(
    r"^(?P<file>[^\s:(][^:(\n]*)[:(](?P<line>\d+)[:)][\d:]* *(?:fatal |catastrophic )?error[^:\n]*: *(?P<what>.*)$",
    re.MULTILINE,
)
"""An error as g++ or NVRTC prints it."""

_SHOWN = 3
"""Errors in a message; those after them mostly follow from the first."""
_TYPES = {
    "float": np.float32,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "unsigned char": np.uint8,
    "signed char": np.int8,
    "double": np.float64,
    "bool": np.bool_,
    "__half": np.float16,
}
_LIMITS = {
    np.dtype(kind): (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    for kind in _TYPES.values()
    if np.issubdtype(kind, np.integer)
}
"""The smallest and the largest value of the integer types."""


class CudaFunction(GpuFunction):
    """One kernel of a .cu file with its defines."""

    def __init__(self, path: Path, name: str, defines: Mapping[str, Any]) -> None:
        super().__init__(path, name)
        self.defines = dict(defines)
        self._variants: dict[tuple, CudaFunction] = {}
        self._parameters = entries(path)[name]

    def __repr__(self) -> str:
        return f"<CUDA C++ kernel {self.name} of {self.path.name}>"

    def define(self, **defines: Any) -> CudaFunction:
        """The same kernel with more (or other) defines, such as tile sizes or fixed extents."""
        key = tuple(defines.items())
        variant = self._variants.get(key)
        if variant is None:
            ordered = tuple(sorted(key))
            variant = self._variants.setdefault(ordered, CudaFunction(self.path, self.name, self.defines | defines))
            self._variants[key] = variant
        return variant

    def source(self) -> str:
        """The text of the file, includes expanded."""
        return expanded(self.path)

    def program(self) -> str:
        """The text with this kernel alone: a compiler for GPUs takes its time for each kernel."""
        return _alone(self.path, self.name)

    def parameters(self) -> list[tuple[str, np.dtype, bool]]:
        """(name, dtype, whether it is a pointer) of each parameter, read from the text."""
        return self._parameters

    def convert(self, arguments: tuple) -> list[Any]:
        """The arguments as the kernel takes them: Python numbers are converted to the C++ type,
        arrays are checked."""
        parameters = self._parameters
        if len(arguments) != len(parameters):
            raise ArgumentError(f"{self.name} takes {len(parameters)} arguments and was given {len(arguments)}")
        return [_converted(self.name, p, a) for p, a in zip(parameters, arguments, strict=True)]

    def refused(self, log: str) -> CompileError:
        """The error for what a compiler prints: its errors, with paths and lines of the user's
        files."""
        files = {path.name: path for path in (self.path, *_included(self.path))}
        texts, last = [], None
        for file, line, what in dict.fromkeys(match.group("file", "line", "what") for match in _ERROR.finditer(log)):
            place = f"line {line}" if file == last else f"{files.get(Path(file).name, file)}:{line}"
            texts.append(f"{place}: {what}")
            last = file
        more = [f"and {len(texts) - _SHOWN} more errors"] if len(texts) > _SHOWN else []
        return CompileError(f"{self.name} cannot be compiled here: {'; '.join([*texts[:_SHOWN], *more]) or log}")

    def parameter_names(self) -> list[str]:
        """The names in the text."""
        return [name for name, _, _ in self.parameters()]

    def run(self, geometry: Geometry, arguments: list[Any]) -> None:
        """Launch on the device in use; compiled there at the first launch."""
        choose.current().launch_cuda(self, geometry, arguments)

    def rehearse(self, compile: Callable[[CudaFunction], None]) -> None:
        """Have the kernel compiled."""
        compile(self)


def cuda_function(file: str | Path, name: str, **defines: Any) -> CudaFunction:
    """The kernel `name` of the .cu file next to (or at) `file`, with macros such as THREADS=256."""
    path = Path(file).with_suffix(".cu")
    if not path.is_file():
        raise KernelError(f"cuda_function({name!r}): there is no file {path}")
    if name not in entries(path):
        raise KernelError(f'{path.name} has no kernel {name!r}: it needs extern "C" __global__ void {name}(…)')
    return CudaFunction(path, name, defines)


@cache
def expanded(path: Path) -> str:
    """The text of a .cu file, headers included: caches of compiled code compare the text."""
    return _expanded(path, {})


@cache
def _included(path: Path) -> tuple[Path, ...]:
    """The headers of a .cu file."""
    seen: dict[str, Path] = {}
    _expanded(path, seen)
    return tuple(seen.values())


def _expanded(path: Path, seen: dict[str, Path]) -> str:
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(_text(path).splitlines(), 1):
        match = _INCLUDE.match(line)
        if not match:
            lines.append(line)
            continue
        if match[1] not in seen:
            header = next((p for p in (path.parent / match[1], _headers() / match[1]) if p.is_file()), None)
            if header is None:
                raise KernelError(
                    f"{path.name}:{number} includes {match[1]}, which is neither next to it nor in include/"
                )
            seen[match[1]] = header
            lines.append(_expanded(header, seen))
        lines.append(f'#line {number + 1} "{path.name}"')
    return "\n".join(lines) + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise KernelError(f"{path.name} is not UTF-8 text, at byte {error.start}: save it as UTF-8") from None


def _headers() -> Path:
    return places.folder_of_kernels() / "include"


@cache
def entries(path: Path) -> dict[str, list[tuple[str, np.dtype, bool]]]:
    """The kernels of a .cu file and their parameters."""
    return {
        name: [_parameter(name, p) for p in inside.split(",") if p.strip()]
        for name, inside in _ENTRY.findall(_code(path))
    }


def _code(path: Path) -> str:
    """The text of a .cu file with blanks in place of comments and quoted text, but for "C"."""
    return _NOT_CODE.sub(
        lambda match: match[0] if match[0] == '"C"' else re.sub(r"[^\n]", " ", match[0]), expanded(path)
    )


@cache
def _alone(path: Path, name: str) -> str:
    """The text of a .cu file without the other kernels, whose lines are left empty."""
    text, code, kept, start = expanded(path), _code(path), [], 0
    for match in _ENTRY.finditer(code):
        end = _end_of_body(code, match.end())
        if match[1] != name and end is not None:
            kept += [text[start : match.start()], "\n" * code.count("\n", match.start(), end)]
            start = end
    return "".join([*kept, text[start:]])


def _end_of_body(code: str, start: int) -> int | None:
    """Where the body of a function ends whose parameters end at `start`; None for a declaration, and where
    the preprocessor chooses parts of the body."""
    depth = 0
    for match in _BODY.finditer(code, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if "#" in match[0] or (match[0] == ";" and not depth):
            return None
        if not depth:
            return match.end()
    return None


def _parameter(kernel: str, text: str) -> tuple[str, np.dtype, bool]:
    words = re.findall(r"\w+|\*", re.sub(r"\bconst\b|__restrict__|\bvolatile\b", " ", text))
    name, kind = words[-1], " ".join(w for w in words[:-1] if w != "*")
    if kind not in _TYPES:
        raise KernelError(
            f"{kernel}: parameter {text.strip()!r} has a type that gpucnn cannot pass; it passes {', '.join(_TYPES)}"
        )
    return name, np.dtype(_TYPES[kind]), "*" in words


def _converted(kernel: str, parameter: tuple[str, np.dtype, bool], value: Any) -> Any:
    name, dtype, pointer = parameter
    if pointer:
        if value is None:
            return np.uint64(0)
        if getattr(value, "dtype", None) != dtype or not hasattr(value, "shape") or isinstance(value, np.generic):
            actual = getattr(value, "dtype", type(value).__name__)
            raise ArgumentError(f"{kernel}: {name} must be an array of {dtype} and is {actual}")
        return value
    if not isinstance(value, (int, float, np.generic)):
        raise ArgumentError(f"{kernel}: {name} must be a number and is {type(value).__name__}")
    limits = _LIMITS.get(dtype)
    if limits is not None:
        smallest, largest = limits
        if value != int(value) or not smallest <= int(value) <= largest:
            raise ArgumentError(f"{kernel}: {name}={value} is not a valid {dtype}")
    return dtype.type(value)
