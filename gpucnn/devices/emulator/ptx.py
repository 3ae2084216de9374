"""PTX on the CPU: the output of NVRTC (CUDA C++) and libNVVM (numba.cuda), translated to C++
statement by statement.

A register becomes a variable of raw bits, a label a label, an instruction a line in the vocabulary
of `source/ptx.h`. Shared memory is one block of memory, `S`: static arrays first, then dynamic
shared memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from ...errors import CompileError, KernelError
from ..launchable import Geometry
from . import ptx_arithmetic, ptx_control, ptx_memory, ptx_warps
from .compiler import library
from .cpp import source_name
from .launching import SharedArray, Statistics, launch
from .ptx_instruction import FLOATS, WIDTHS, Instruction, Translation, Unsupported, cpp_type

_TRANSLATIONS: dict[str, Translation] = ptx_arithmetic.TABLE | ptx_memory.TABLE | ptx_control.TABLE | ptx_warps.TABLE

_FLAGS = {"fast": ("-O1", "-ffp-contract=off"), "check": ("-O1", "-ffp-contract=off", "-DGPU_CHECK")}

_SHARED = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)((?:\[\d*\])*)\s*;")
_CONSTANT = re.compile(
    r"\.(?:const|global)\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?"
    r"(?:\s*=\s*(\{[^}]*\}|[^;]+))?\s*;"
)
_FUNCTION = re.compile(
    r"\.(entry|func)\s*(?:\.noreturn\s*)?(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)([{;])"
)
_LINE = re.compile(r"\.loc\s+(\d+)\s+(\d+)[^\n]*\n?")
_FLUSHABLE = re.compile(r"\b(?:add|sub|mul|fma|mad)\.(?:r[nzmp]\.)?(ftz\.)?(?:sat\.)?f32\b")

_SPECIAL = {
    **{f"%tid.{a}": f"threadIdx.{a}" for a in "xyz"},
    **{f"%ctaid.{a}": f"blockIdx.{a}" for a in "xyz"},
    **{f"%ntid.{a}": f"blockDim.{a}" for a in "xyz"},
    **{f"%nctaid.{a}": f"gridDim.{a}" for a in "xyz"},
    "%laneid": "gpu_lane",
    "%warpid": "((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) / 32)",
    "%nwarpid": "((blockDim.x * blockDim.y * blockDim.z + 31) / 32)",
    "%lanemask_eq": "(1u << gpu_lane)",
    "%lanemask_lt": "((1u << gpu_lane) - 1)",
    "%lanemask_le": "(2u * (1u << gpu_lane) - 1)",
    "%lanemask_gt": "~(2u * (1u << gpu_lane) - 1)",
    "%lanemask_ge": "~((1u << gpu_lane) - 1)",
    "%dynamic_smem_size": "gpu_dynamic_shared_bytes()",
    "WARP_SZ": "32",
    **{
        name: "0" for name in ("%clock", "%clock64", "%clock_hi", "%globaltimer", "%globaltimer_lo", "%smid", "%gridid")
    },
}


@dataclass(frozen=True)
class StaticArray:
    """A static __shared__ array."""

    name: str
    offset: int
    nbytes: int


class PtxText:
    """A PTX text in its parts: constants, shared arrays, functions."""

    def __init__(self, ptx: str) -> None:
        text = re.sub(r"/\*.*?\*/", " ", ptx.replace("\0", ""), flags=re.DOTALL)
        self.text = re.sub(r"//[^\n]*", "", text)
        self.files = {int(n): path for n, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', self.text)}
        flushing = [bool(ftz) for ftz in _FLUSHABLE.findall(self.text)]
        self.flushes_itself = all(flushing) and bool(flushing)
        """Whether all arithmetic flushes denormals, so that the processor can do it."""
        self.statics, self.dynamic, self.static_bytes = self._shared()
        self.constants = {m[2]: m for m in _CONSTANT.finditer(self.text)}
        functions = list(self._functions())
        self.defined = {f.name for f in functions}
        self.entries = [f.name for f in functions if f.entry]
        self.functions = functions
        self.static_bytes_of = {entry: self._static_bytes_of(entry) for entry in self.entries}
        """The static shared memory of each kernel and of the functions that it may call."""

    def _shared(self) -> tuple[dict[str, StaticArray], str | None, int]:
        statics: dict[str, StaticArray] = {}
        dynamic, end = None, 0
        for align, kind, name, extents in _SHARED.findall(self.text):
            if extents.endswith("[]"):
                dynamic = name
                continue
            size = WIDTHS[kind] // 8
            for extent in re.findall(r"\d+", extents):
                size *= int(extent)
            step = int(align or WIDTHS[kind] // 8)
            end = -(-end // step) * step
            statics[name] = StaticArray(name, end, size)
            end += size
        return statics, dynamic, -(-end // 16) * 16

    def _functions(self) -> Iterator[PtxFunction]:
        for match in _FUNCTION.finditer(self.text):
            kind, results, name, parameters, _, end = match.groups()
            if end == ";":
                continue
            body = self.text[match.end() : self._closing_brace(match.end())]
            yield PtxFunction(self, name, kind == "entry", _names(results), _names(parameters), body)

    def _closing_brace(self, start: int) -> int:
        """Where the block ends that is open at `start`."""
        depth = 1
        for brace in re.compile("[{}]").finditer(self.text, start):
            depth += 1 if brace[0] == "{" else -1
            if not depth:
                return brace.start()
        raise KernelError("the PTX ends within a function")

    def _static_bytes_of(self, entry: str) -> int:
        bodies = [f.body for f in self.functions if f.name == entry or not f.entry]
        names = {word for body in bodies for word in re.findall(r"[\w$]+", body)}
        return sum(static.nbytes for name, static in self.statics.items() if name in names)

    def cpp(self) -> str:
        """The C++ text of everything."""
        lines = ['#include "ptx.h"']
        for name, match in self.constants.items():
            kind, _, count, values = match.groups()
            words = (values or "0").strip().strip("{}").split(",")
            numbers = ", ".join(_number(word.strip(), kind) or word for word in words)
            variable = f"{cpp_type(kind)} G_{_plain(name)}[{count or 1}]"
            # `used`: the host may write it
            lines.append(f"alignas(16) __attribute__((used)) static {variable} = {{{numbers}}};")
        for function in self.functions:
            lines.append(f"static void F_{_plain(function.name)}(void** R, void** A);")
        lines += [function.cpp() for function in self.functions]
        for number, name in enumerate(self.entries):
            lines.append(f"PTX_EXPORT({number}, F_{_plain(name)})")
        return "\n".join(lines) + "\n"


def _names(parameters: str | None) -> list[str]:
    matches = (re.search(r"([\w$]+)(?:\[\d+\])?\s*$", p) for p in (parameters or "").split(",") if p.strip())
    return [m[1] for m in matches if m]


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name.lstrip("%"))


class PtxFunction:
    """One function of a PTX text: the `Scope` of its instructions."""

    def __init__(
        self, text: PtxText, name: str, entry: bool, results: list[str], parameters: list[str], body: str
    ) -> None:
        self.text, self.name, self.entry, self.body = text, name, entry, body
        self.flushes_itself = text.flushes_itself
        self.places = {p: f"A[{i}]" for i, p in enumerate(parameters)} | {r: f"R[{i}]" for i, r in enumerate(results)}
        self.widths: dict[str, int] = {}
        self.local: set[str] = set()
        self.tables: dict[str, list[str]] = {}
        self.file, self.line = 0, 0

    def cpp(self) -> str:
        """The function in C++."""
        registers: list[str] = []
        code: list[str] = []
        for table, labels in re.findall(r"([\w$]+):\s*\.branchtargets\s+([^;]+);", self.body):
            self.tables[table] = [label.strip() for label in labels.split(",")]
        depth = 0
        for statement in self._statements():
            if statement in ("{", "}"):
                depth += 1 if statement == "{" else -1
                code.append(statement)
            elif statement.endswith(":"):
                code.append(f"{self.label(statement[:-1])}:;")
            elif statement.startswith("."):
                variables = self._declaration(statement, initialised=not depth)
                (code if depth else registers).extend(variables)
            else:
                code.append("    " + self._instruction(statement))
        head = f"static void F_{_plain(self.name)}(void** R, void** A) {{"
        prologue = "    char* const S = gpu_shared(); u64 carry = 0; (void)S; (void)carry; (void)A; (void)R;"
        return "\n".join([head, prologue, *(f"    {r}" for r in registers), *code, "}"])

    def _statements(self) -> Iterator[str]:
        """Labels (`name:`), braces, directives and instructions; records the line of each .loc."""
        body, at = self.body, 0
        while True:
            at = re.compile(r"\s*").match(body, at).end()  # type: ignore[union-attr]
            if at == len(body):
                return
            if line := _LINE.match(body, at):
                if int(line[2]):
                    self.file, self.line = int(line[1]), int(line[2])
                at = line.end()
            elif body[at] in "{}":
                yield body[at]
                at += 1
            elif label := re.compile(r"([\w$%]+)\s*:(?!:)").match(body, at):
                yield f"{label[1]}:"
                at = label.end()
            else:
                end = body.index(";", at)
                yield body[at:end].strip()
                at = end + 1

    def _declaration(self, statement: str, initialised: bool) -> list[str]:
        if register := re.match(r"\.reg\s*\.(\w+)\s+(.*)", statement, re.DOTALL):
            kind, out = register[1], []
            for name in register[2].split(","):
                numbered = re.match(r"(%?[\w$]+)<(\d+)>", name.strip())
                each = [f"{numbered[1]}{i}" for i in range(int(numbered[2]))] if numbered else [name.strip()]
                for r in each:
                    self.widths[r] = 1 if kind == "pred" else WIDTHS[kind]
                    out.append(f"{self._variable(kind)} {self._register(r)}{' = 0' if initialised else ''};")
            return out
        if memory := re.match(
            r"\.(?:local|param)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", statement
        ):
            align, kind, name, count = memory.groups()
            self.local.add(name)
            size = WIDTHS[kind] // 8 * int(count or 1)
            return [f"alignas({max(int(align or 1), 8)}) u8 L_{_plain(name)}[{size}];"]
        return []

    @staticmethod
    def _variable(kind: str) -> str:
        return "bool" if kind == "pred" else f"u{WIDTHS[kind]}"

    @staticmethod
    def _register(name: str) -> str:
        return "R_" + _plain(name)

    def _instruction(self, statement: str) -> str:
        guard = ""
        if match := re.match(r"@(!?)(%?[\w$]+)\s+", statement):
            guard, statement = f"if ({match[1]}{self._register(match[2])}) ", statement[match.end() :]
        opcode, _, rest = statement.partition(" ") if " " in statement else statement.partition("\t")
        name, *modifiers = opcode.strip().split(".")
        operands = re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,{}\[\]()])+", rest)
        instruction = Instruction(
            name,
            tuple(m.removesuffix("::cta") for m in modifiers),
            tuple(o.strip() for o in operands if o.strip()),
            f'"@gpu:{self._place()}"',
        )
        try:
            if name not in _TRANSLATIONS:
                raise Unsupported
            return f"{guard}{{ {_TRANSLATIONS[name](self, instruction)} }}"
        except (Unsupported, ValueError, IndexError):
            raise CompileError(
                f"{self.name} cannot be compiled here: the emulator does not know the PTX instruction "
                f"`{' '.join(statement.split())}` ({self._place()})"
            ) from None

    def _place(self) -> str:
        return f"{self.text.files.get(self.file, 'PTX').rpartition('/')[2]}:{self.line}"

    def label(self, name: str) -> str:
        """The C++ name of a label."""
        return "B_" + _plain(name)

    def targets(self, table: str) -> list[str]:
        """The labels of a `.branchtargets` table."""
        return self.tables[table]

    def assign(self, register: str, kind: str, expression: str) -> str:
        """The statement that gives a register a value of a PTX type; a wider register is extended
        by its sign."""
        width, own = self.widths.get(register, WIDTHS[kind]), WIDTHS[kind]
        target = self._register(register)
        if kind == "pred":
            return f"{target} = {expression}; "
        bits = f"RAW({cpp_type(kind)}, {expression})" if kind in FLOATS else f"({cpp_type(kind)})({expression})"
        if kind[0] == "s" and width > own:
            return f"{target} = (u{width})(s{width}){bits}; "
        return f"{target} = (u{width}){bits}; " if width != own else f"{target} = {bits}; "

    def value(self, operand: str, kind: str) -> str:
        """An operand as a C++ value of a PTX type."""
        if kind == "param":
            return f"L_{_plain(operand)}"
        if kind == "pred":
            negated = "!" if operand.startswith("!") else ""
            plain = operand.lstrip("!")
            literal = re.fullmatch(r"-?\d+", plain)
            return negated + (str(int(plain) != 0).lower() if literal else self._register(plain))
        number = _number(operand, kind)
        if number is not None:
            return number
        to = cpp_type(kind) if kind != "tf32" else "u32"
        if operand in _SPECIAL:
            return f"({to}){_SPECIAL[operand]}"
        if operand in self.text.statics:
            return f"({to}){self.text.statics[operand].offset}"
        if operand == self.text.dynamic:
            return f"({to}){self.text.static_bytes}"
        if operand in self.text.constants:
            return f"({to})(u64)G_{_plain(operand)}"
        if operand in self.places:
            return f"({to})(u64){self.places[operand]}"
        if operand in self.local:
            return f"({to})(u64)L_{_plain(operand)}"
        if operand.startswith("-") and operand[1:] in self.widths:
            return f"neg_({self._typed(operand[1:], kind)})"
        if operand not in self.widths:
            raise Unsupported
        return self._typed(operand, kind)

    def _typed(self, register: str, kind: str) -> str:
        """The bits of a register as a value of a PTX type."""
        to, bits = cpp_type(kind) if kind != "tf32" else "u32", self._register(register)
        if self.widths[register] != WIDTHS[kind]:
            bits = f"(u{WIDTHS[kind]}){bits}"
        if kind in FLOATS:
            return f"FROM({to}, {bits})"
        return f"({to}){bits}" if kind[0] == "s" else bits

    def address(self, operand: str, space: str) -> str:
        """`[name+4]` as a C++ expression of type u64."""
        match = re.fullmatch(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if not match:
            raise Unsupported
        base, offset = match[1], match[2] or "0"
        if space == "shared":
            return f"(u64)S + (u32)({self.value(base, 'u32')} + {offset})"
        return f"{self.value(base, 'u64')} + (s64){offset}"

    def call(self, name: str, results: list[str], arguments: list[str]) -> str:
        """A call of a device function."""
        if name not in self.text.defined:
            raise Unsupported
        inputs = ", ".join(f"L_{_plain(a)}" for a in arguments) or "nullptr"
        outputs = ", ".join(f"L_{_plain(r)}" for r in results) or "nullptr"
        return f"void* a[] = {{{inputs}}}; void* r[] = {{{outputs}}}; F_{_plain(name)}(r, a);"


def _number(operand: str, kind: str) -> str | None:
    """A literal as a C++ value; floats are written as their bits: 0f3F800000."""
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", operand):
        return f"FROM(f32, 0x{operand[2:]}u)" if kind == "f32" else f"({cpp_type(kind)})0x{operand[2:]}u"
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", operand):
        return f"FROM({cpp_type(kind)}, 0x{operand[2:]}ull)"
    if not re.fullmatch(r"-?(?:0[xX][0-9a-fA-F]+|\d+)U?", operand):
        return None
    digits = operand.rstrip("U")
    suffix = "ll" if int(digits, 0) < 2**63 else "ull"
    if kind in ("f16", "bf16", "f32", "f64", "f16x2", "bf16x2"):
        return f"FROM({kind}, (u{WIDTHS[kind]}){digits}{suffix})"
    return f"({cpp_type(kind)}){digits}{suffix}"


@cache
def _translated(ptx: str) -> tuple[PtxText, str]:
    """A text in its parts, and its C++, which is the same for each mode."""
    text = PtxText(ptx)
    return text, text.cpp()


class PtxModule:
    """The kernels of one PTX text. Another `copy` of the same text has its own variables."""

    def __init__(self, ptx: str, mode: str, shared_names: Sequence[str] = (), copy: int = 0) -> None:
        self.text, cpp = _translated(ptx)
        extra = {"copy": str(copy)} if copy else {}
        self.library = library({"kernel.cpp": cpp} | extra, "kernel.cpp", _FLAGS[mode])
        self._shared_names = list(shared_names)

    def launch(
        self,
        name: str,
        geometry: Geometry,
        arguments: Sequence[Any],
        names: Sequence[str],
        title: str | None = None,
    ) -> Statistics:
        """Run the kernel `name` (in the source: `title`); `names` are those of the arrays among its
        arguments."""
        return launch(
            getattr(self.library.functions, f"gpu_launch_{self.text.entries.index(name)}"),
            title or name,
            geometry,
            arguments,
            names,
            static_bytes=self.text.static_bytes_of[name],
            variables=self._variables,
            dynamic_offset=self.text.static_bytes,
            shared=self._shared,
            dynamic_name=self.text.dynamic or "dynamic shared memory",
            flush=self.text.flushes_itself,
            location=self.library.location,
        )

    @cached_property
    def _variables(self) -> dict[str, np.ndarray]:
        """The __device__ variables."""
        return {name: memory for name, memory in self.memory_of_variables().items() if self._is_global(name)}

    def _is_global(self, name: str) -> bool:
        return self.text.constants[name][0].startswith(".global")

    def memory_of_variables(self) -> dict[str, np.ndarray]:
        """By name the memory of the __device__ and the __constant__ variables."""
        return self.library.variables({f"G_{_plain(name)}": name for name in self.text.constants})

    @cached_property
    def _shared(self) -> list[SharedArray]:
        statics = list(self.text.statics.values())
        names = [source_name(s.name) for s in statics]
        if len(self._shared_names) == len(statics):
            names = self._shared_names
        return [SharedArray(n, s.offset, s.nbytes, relative=True) for n, s in zip(names, statics, strict=True)]
