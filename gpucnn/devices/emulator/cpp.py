"""CUDA C++ on the CPU: the kernel's text, compiled by g++ with `source/cuda.h` in front of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..launchable import Geometry
from .compiler import SOURCE, library
from .launching import SharedArray, Statistics, launch

_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*|alignas\(\d+\)\s*)?([\w:]+(?:\s+[\w:]+)*?)\s+(\w+)\s*\[\s*\]\s*;"
)
_VARIABLE = re.compile(r"^\s*__device__\s+[\w:\s]+?\b(\w+)\s*(?:\[[^\]]*\]\s*)*(?:=[^;]*)?;", re.MULTILINE)
_ENTRY = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*(?:\([^)]*\)[^)]*)*\)\s*)?(\w+)\s*\('
)
# In check mode, g++ calls the checker at each load, store, wrong index and wrong alignment.
_CHECKED = (
    "-fsanitize=thread,bounds-strict,alignment",
    "--param=tsan-instrument-func-entry-exit=0",
    "-DGPU_CHECK",
)
# Only lines of debugging information, in the DWARF version that every addr2line understands.
_LINES = ("-g1", "-gdwarf-4")
_FLAGS = {"fast": ("-O2", *_LINES), "check": ("-O1", *_LINES, *_CHECKED)}


class CppModule:
    """The kernels of one CUDA C++ text."""

    def __init__(self, text: str, file: str, defines: Mapping[str, Any], mode: str) -> None:
        names = _ENTRY.findall(text)
        self._numbers = {name: i for i, name in enumerate(names)}
        exports = "".join(f"GPU_EXPORT({number}, {name})\n" for name, number in self._numbers.items())
        dynamic = _DYNAMIC.search(text)
        self._dynamic_name = dynamic[2] if dynamic else "dynamic shared memory"
        body = _DYNAMIC.sub(r"\1* const \2 = (\1*)gpu_dynamic_shared();", text)
        macros = (f"-D{name}={_macro(value)}" for name, value in defines.items())
        self._library = library(
            {file: body, f"{file}.cpp": f'#include "{file}"\n{exports}'},
            f"{file}.cpp",
            (*_FLAGS[mode], *macros, "-include", str(SOURCE / "cuda.h")),
        )
        self._shared = self._shared_arrays() if names else []
        self._variables = self._library.variables({name: name for name in _VARIABLE.findall(text)})

    def launch(self, name: str, geometry: Geometry, arguments: Sequence[Any], names: Sequence[str]) -> Statistics:
        """Run the kernel `name`; `names` are those of the arrays among its arguments."""
        own = _statics_of(name)
        others = tuple(_statics_of(other) for other in self._numbers if other != name)
        return launch(
            getattr(self._library.functions, f"gpu_launch_{self._numbers[name]}"),
            name,
            geometry,
            arguments,
            names,
            static_bytes=sum(array.nbytes for symbol, array in self._shared if symbol.startswith(own)),
            shared=[array for symbol, array in self._shared if not symbol.startswith(others)],
            variables=self._variables,
            dynamic_name=self._dynamic_name,
            flush=True,
            location=self._library.location,
        )

    def _shared_arrays(self) -> list[tuple[str, SharedArray]]:
        """The __shared__ arrays: statics of functions, whose mangled names begin with _ZZ."""
        base = self._library.base("gpu_launch_0")
        return [
            (symbol, SharedArray(source_name(symbol), base + offset, size, relative=False))
            for offset, size, kind, symbol in self._library.symbols()
            if kind in "bBdDuvV" and symbol.startswith("_ZZ")
        ]


def _statics_of(kernel: str) -> str:
    """How the mangled names of a kernel's static arrays begin."""
    return f"_ZZ{len(kernel)}{kernel}"


def _macro(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def source_name(symbol: str) -> str:
    """The name in the source of a mangled symbol: `x_tile` of `_ZZ11conv2d_tileE6x_tile`."""
    name = re.sub(r"(_\d+)?$", "", re.sub(r".*E(?=\d)", "", symbol))
    return re.sub(r"^\d+", "", name)
