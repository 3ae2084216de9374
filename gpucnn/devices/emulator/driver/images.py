"""The PTX of a module's image, which the emulated driver translates and runs.

CuPy and Numba hand machine code to the driver. Its PTX is noted where that machine code is made
(functions of CuPy, cuda.core and numba-cuda are wrapped when these are imported), under the hash of
the machine code, in the cache. NVRTC also leaves it in machine code that was made with -lineinfo.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import struct
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .... import places

_FOLDER = "emulated_gpu"


def ptx_of(image: bytes) -> str | None:
    """The PTX of an image: itself, what was noted of machine code, or what that holds. None if
    there is none."""
    if image[:4] != b"\x7fELF":
        text = image.rstrip(b"\0")
        return text.decode() if b".version" in text[:4096] else None
    folder = places.cache_folder(_FOLDER)
    noted = places.intact(folder / f"{_hash(image)}.ptx") if folder else None
    return noted.decode() if noted is not None else _embedded(image)


def note(cubin: bytes, ptx: str | bytes) -> None:
    """Keep the PTX of machine code."""
    folder = places.cache_folder(_FOLDER)
    text = ptx if isinstance(ptx, bytes) else ptx.encode()
    if folder:
        places.keep(folder / f"{_hash(bytes(cubin))}.ptx", text.rstrip(b"\0"))


def _tables(elf: bytes) -> tuple[int, int, int, int, int, int]:
    """Of an ELF file the program headers and the section headers: offset, size and number of
    each."""
    (programs, sections), (size, count, section_size, section_count) = (
        struct.unpack_from("<QQ", elf, 32),
        struct.unpack_from("<4H", elf, 54),
    )
    return programs, size, count, sections, section_size, section_count


def _hash(elf: bytes) -> str:
    """The hash of an ELF file without its last byte, which CuPy drops."""
    programs, size, count, sections, section_size, section_count = _tables(elf)
    end = max(programs + size * count, sections + section_size * section_count)
    return hashlib.sha256(elf[: end - 1]).hexdigest()


def _embedded(elf: bytes) -> str | None:
    """The section .nv_debug_ptx_txt: PTX without the lines of the source."""
    *_, sections, size, count = _tables(elf)
    (names_number,) = struct.unpack_from("<H", elf, 62)
    headers = [struct.unpack_from("<IIQQQQ", elf, sections + size * i) for i in range(count)]
    names = headers[names_number][4]
    for name, _, _, _, offset, nbytes in headers:
        start = names + name
        if elf[start : elf.index(b"\0", start)] == b".nv_debug_ptx_txt":
            return elf[offset : offset + nbytes].replace(b"\0", b"\n").decode()
    return None


# -- where machine code is made ----------------------------------------------------------------------------------------


class Wrapping(importlib.abc.MetaPathFinder):
    """Calls a function with each of some modules once it is imported."""

    def __init__(self, wrappers: dict[str, Callable[[Any], None]]) -> None:
        self._wrappers = wrappers

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        """The module's own spec, with a loader that also calls the wrapper."""
        if name not in self._wrappers:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            self._wrappers[name](module)

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


def note_all(check: bool) -> None:
    """Note PTX from now on. With `check`, CuPy's kernels keep the lines of their source."""

    def wrap_cupy(module: Any) -> None:
        _wrap_cupy(module, check)

    wrappers = {"cupy.cuda.compiler": wrap_cupy, "cuda.core": _wrap_cuda_core, "numba.cuda.codegen": _wrap_numba}
    sys.meta_path.insert(0, Wrapping(wrappers))


def _wrap_cupy(compiler: Any, check: bool) -> None:
    original = compiler._NVRTCProgram.compile

    def compile(self: Any, options: tuple = (), log_stream: Any = None) -> Any:
        lines = ("-lineinfo",) if check and "-lineinfo" not in options else ()
        result = original(self, (*options, *lines), log_stream)
        if self.method == "cubin":
            note(result[0], compiler.nvrtc.getPTX(self.ptr))
        return result

    compiler._NVRTCProgram.compile = compile


def _wrap_cuda_core(core: Any) -> None:
    original = core.Program

    class Program:
        """cuda.core's, which notes the PTX from which it makes machine code."""

        def __init__(self, code: Any, code_type: str, options: Any = None) -> None:
            self._code, self._code_type = code, code_type
            self._program = original(code, code_type, options)

        def compile(self, target_type: str, **options: Any) -> Any:
            """The object code."""
            result = self._program.compile(target_type, **options)
            if self._code_type == "ptx" and target_type == "cubin":
                note(bytes(result.code), self._code)
            return result

        def __getattr__(self, name: str) -> Any:
            return getattr(self._program, name)

    core.Program = Program


def _wrap_numba(codegen: Any) -> None:
    library = codegen.CUDACodeLibrary
    original = library.get_cubin

    def get_cubin(self: Any, cc: Any = None) -> Any:
        result = original(self, cc)
        ptx = self.get_asm_strs(cc)
        if len(ptx) == 1:
            note(bytes(result.code), ptx[0])
        return result

    library.get_cubin = get_cubin
