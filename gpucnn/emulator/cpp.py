"""CUDA C++ on the CPU: the kernel's text, compiled by g++ with `source/cuda.h` in front of it."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from .compiler import CHECK, SOURCE, library
from .launching import Buffer, Statistics, launch

_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?([\w:]+(?:\s+[\w:]+)*?)\s+(\w+)\s*\[\s*\]\s*;"
)
_ENTRY = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*(?:\([^)]*\)[^)]*)*\)\s*)?(\w+)\s*\('
)
_FLAGS = {
    "fast": (("-O2", "-march=native"), ("-O2",)),
    "check": (("-O1", "-gdwarf-4", "-g1", *CHECK), ("-O2", "-DGPU_CHECK")),
}


class CppModule:
    """The kernels of one CUDA C++ text."""

    def __init__(self, text: str, file: str, defines: Mapping[str, Any], mode: str) -> None:
        names = _ENTRY.findall(text)
        self._ids = {name: f"k{i}" for i, name in enumerate(names)}
        exports = "".join(f"GPU_EXPORT({ident}, {name})\n" for name, ident in self._ids.items())
        pointer = _DYNAMIC.sub(r"\1* \2 = (\1*)gpu_dyn_smem();", text)
        flags, runtime_flags = _FLAGS[mode]
        flags = (*flags, *(f"-D{k}={v}" for k, v in defines.items()), "-include", str(SOURCE / "cuda.h"))
        main = file + ".cpp"
        texts = {file: pointer + "\n", main: f'#include "{file}"\n{exports}'}
        self._library = library(texts, main, flags, runtime_flags)
        self._find_shared_arrays()

    def launch(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], arguments: Any, shared_bytes: int = 0
    ) -> Statistics:
        """Run the kernel `name`."""
        return launch(
            getattr(self._library, f"gpu_launch_{self._ids[name]}"),
            name,
            grid,
            block,
            arguments,
            shared_bytes=shared_bytes,
            shared=[Buffer(address, size, 4, 2, None) for address, size, _ in self._shared],
            explain=self._explain,
        )

    def _find_shared_arrays(self) -> None:
        """(address, size, symbol) of every __shared__ array: they are statics of functions, found by `nm`."""
        symbols = subprocess.run(
            ["nm", "-S", "--defined-only", self._library._name], capture_output=True, text=True, check=True
        ).stdout
        found = []
        for line in symbols.splitlines():
            words = line.split()
            if words[-1] == "gpu_launch_k0":
                start = ctypes.cast(self._library.gpu_launch_k0, ctypes.c_void_p).value
                self._base = (start or 0) - int(words[0], 16)
            elif len(words) == 4 and words[2] in "bBdDuvV" and words[3].startswith("_ZZ") and "gpu_code" not in words[3]:
                found.append((int(words[0], 16), int(words[1], 16), words[3]))
        self._shared = [(self._base + offset, size, symbol) for offset, size, symbol in found]

    def _explain(self, message: str) -> str:
        """`pc 0x…` as a source line and `shared array 2` as the array's name."""
        message = re.sub(r"pc (0x[0-9a-f]+)", self._line, message)
        return re.sub(r"shared array (\d+)", lambda m: f"__shared__ {self._name(int(m[1]))}", message)

    def _line(self, match: re.Match[str]) -> str:
        address = hex(int(match[1], 16) - 1 - self._base)
        found = subprocess.run(["addr2line", "-e", self._library._name, address], capture_output=True, text=True)
        return "at " + found.stdout.strip().rpartition("/")[2].split(" (")[0]

    def _name(self, index: int) -> str:
        return re.sub(r"^\d+|(_\d+)?$", "", re.sub(r".*E(?=\d)", "", self._shared[index][2]))
