"""What the driver calls: kernels and variables of a module's image, and messages about faults."""

from __future__ import annotations

import ctypes
import re
import sys
import traceback
from collections.abc import Sequence

from ....errors import printable
from .. import faults
from ..cpp import source_name
from ..launching import Launch
from ..ptx import PtxModule
from . import images

_INVALID_IMAGE, _NO_BINARY, _INVALID_PTX = 200, 209, 218
"""CUDA's errors for an image that is none, for another GPU, and that cannot be translated."""

_TARGET = re.compile(r"^\s*\.target\s+sm_(\d+)", re.MULTILINE)


class _Structure(ctypes.Structure):
    """A structure of driver.h, which keeps what its pointers refer to."""

    kept: list


class Parameter(ctypes.Structure):
    """Of a kernel."""

    _fields_ = (("bytes", ctypes.c_size_t), ("alignment", ctypes.c_size_t))


class Extent(ctypes.Structure):
    """Of a static shared array."""

    _fields_ = (("offset", ctypes.c_size_t), ("bytes", ctypes.c_size_t))


class KernelText(_Structure):
    """KernelText of driver.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("launch", ctypes.c_void_p),
        ("static_bytes", ctypes.c_size_t),
        ("dynamic_offset", ctypes.c_size_t),
        ("flush", ctypes.c_int),
        ("parameter_count", ctypes.c_size_t),
        ("parameters", ctypes.POINTER(Parameter)),
        ("shared_count", ctypes.c_size_t),
        ("shared", ctypes.POINTER(Extent)),
    )


class VariableText(ctypes.Structure):
    """VariableText of driver.h."""

    _fields_ = (("name", ctypes.c_char_p), ("address", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


class ModuleText(_Structure):
    """ModuleText of driver.h."""

    _fields_ = (
        ("kernel_count", ctypes.c_size_t),
        ("kernels", ctypes.POINTER(KernelText)),
        ("variable_count", ctypes.c_size_t),
        ("variables", ctypes.POINTER(VariableText)),
    )


class NamedMemory(ctypes.Structure):
    """NamedMemory of driver.h."""

    _fields_ = (("address", ctypes.c_size_t), ("bytes", ctypes.c_size_t), ("argument", ctypes.c_int))


class Modules:
    """The modules of this process. They are kept until its end, because launches may wait.

    cc     the GPU's compute capability
    check  whether kernels run under the checker
    """

    def __init__(self, cc: int, check: bool) -> None:
        self._cc, self._mode = cc, "check" if check else "fast"
        self._kept: list[object] = []
        self._kernels: dict[int, PtxModule] = {}
        self._variables: dict[int, str] = {}
        self._copies: dict[str, int] = {}

    def load(self, image: int, size: int, out: int) -> int:
        """Describe an image in the structure at `out`; 0, or CUDA's error."""
        try:
            data = ctypes.string_at(image, size)
            ptx = images.ptx_of(data)
            if ptx is None:
                kind = "machine code whose PTX is unknown" if data[:4] == b"\x7fELF" else "neither PTX nor machine code"
                _say(f"a module of {size} bytes cannot be loaded: it is {kind}")
                return _NO_BINARY if data[:4] == b"\x7fELF" else _INVALID_IMAGE
            target = _TARGET.search(ptx)
            if target and int(target[1]) > self._cc:
                _say(f"a module for sm_{target[1]} cannot be loaded: this GPU is sm_{self._cc}")
                return _NO_BINARY
            ctypes.memmove(out, ctypes.byref(self._described(ptx)), ctypes.sizeof(ModuleText))
        except Exception as error:
            _say(f"a module cannot be loaded: {error}")
            traceback.print_exc()
            return _INVALID_PTX
        return 0

    def _described(self, ptx: str) -> ModuleText:
        # Each module has variables of its own, and a library that is loaded twice has them once.
        copy = self._copies.get(ptx, 0)
        module = PtxModule(ptx, self._mode, copy=copy)
        if module.text.constants:
            self._copies[ptx] = copy + 1
        kernels = [self._kernel(module, number, name) for number, name in enumerate(module.text.entries)]
        variables = []
        for name, memory in module.memory_of_variables().items():
            address = memory.ctypes.data
            self._variables[address] = name
            variables.append(VariableText(name.encode(), address, memory.nbytes))
        text = ModuleText(
            len(kernels),
            (KernelText * max(len(kernels), 1))(*kernels),
            len(variables),
            (VariableText * max(len(variables), 1))(*variables),
        )
        self._kept += [module, kernels, variables, text]
        return text

    def _kernel(self, module: PtxModule, number: int, name: str) -> KernelText:
        address = ctypes.cast(getattr(module.library.functions, f"gpu_launch_{number}"), ctypes.c_void_p).value or 0
        self._kernels[address] = module
        parameters = [Parameter(*pair) for pair in parameters_of(module.text.text, name)]
        shared = [Extent(s.offset, s.nbytes) for s in module.text.statics.values()]
        return KernelText(
            name.encode(),
            address,
            module.text.static_bytes_of[name],
            module.text.static_bytes,
            module.text.flushes_itself,
            len(parameters),
            (Parameter * max(len(parameters), 1))(*parameters),
            len(shared),
            (Extent * max(len(shared), 1))(*shared),
        )

    def report_fault(self, kernel: int, launch: int, memory: int, count: int) -> None:
        """Print the sentence about a kernel's fault."""
        text = KernelText.from_address(kernel)
        config = Launch.from_address(launch)
        module = self._kernels[text.launch]
        size = max(config.fault.size, 1)
        arrays = []
        for array in (NamedMemory * count).from_address(memory) if count else ():
            # numba-cuda passes an array as several arguments, whose numbers would mislead.
            numbered = array.argument >= 0 and not re.search(rb"B2v\dB", text.name)
            unnamed = f"argument {array.argument + 1}" if numbered else f"an array of {array.bytes} bytes"
            name = self._variables.get(array.address, unnamed)
            arrays.append(faults.Memory(name, array.address, array.bytes, None, size))
        for s in module.text.statics.values():
            arrays.append(faults.shared_memory(source_name(s.name), config.shared + s.offset, s.nbytes))
        dynamic = config.shared_bytes - config.dynamic_offset
        name = module.text.dynamic or "dynamic shared memory"
        arrays.append(faults.shared_memory(name, config.shared + config.dynamic_offset, dynamic))
        where = lambda site: module.library.location(config.image_begin, site) if site else ""  # noqa: E731
        _say(f"{readable_name(text.name.decode())}: {faults.sentence(config.fault, arrays, where)}")


def report(sentence: bytes) -> None:
    """Print a sentence of the driver's."""
    _say(readable_names(sentence.decode()))


def _say(sentence: str) -> None:
    # CuPy compiles a kernel under the name of a temporary file.
    sentence = re.sub(r"[0-9a-f]{40}\.cubin\.cu:(\d+)", r"line \1 of its source", sentence)
    for nowhere in (" (PTX:0)", " (kernel.cpp:?)"):
        sentence = sentence.replace(nowhere, "")
    sentence = sentence.replace("mode='check' names", "--check names")
    print(f"gpucnn: emulated GPU: {printable(sentence)}", file=sys.stderr, flush=True)


def parameters_of(text: str, entry: str) -> Sequence[tuple[int, int]]:
    """(bytes, alignment) of each parameter of a kernel."""
    declared = re.search(r"\.entry\s+" + re.escape(entry) + r"\s*(?:\(([^)]*)\))?", text)
    out = []
    for part in ((declared and declared[1]) or "").split(","):
        match = re.search(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.[bsuf](\d+)", part)
        if match:
            extent = re.search(r"\[(\d+)\]\s*$", part.strip())
            width = int(match[2]) // 8
            out.append((width * int(extent[1]) if extent else width, int(match[1] or width)))
    return out


def readable_name(symbol: str) -> str:
    """The last name in a mangled one: `axpy` of `_ZN6cudapy8__main__4axpyB2v1…`."""
    names, at = [], 3 if symbol.startswith("_ZN") else 2
    while symbol.startswith("_Z") and (digits := re.compile(r"\d+").match(symbol, at)):
        at = digits.end() + int(digits[0])
        names.append(symbol[digits.end() : at])
    return names[-1] if names else symbol


def readable_names(sentence: str) -> str:
    """The sentence with all mangled names replaced."""
    return re.sub(r"\b_Z\w+", lambda match: readable_name(match[0]), sentence)
