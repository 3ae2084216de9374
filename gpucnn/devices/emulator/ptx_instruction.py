"""One PTX instruction with its types and operands, and what its translation to C++ needs.

The translations stand in `ptx_arithmetic`, `ptx_memory`, `ptx_control` and `ptx_warps`, one
function for each instruction (or a few alike); they write C++ in the vocabulary of `source/ptx.h`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

WIDTHS = {
    **{name: 8 for name in ("b8", "u8", "s8")},
    **{name: 16 for name in ("b16", "u16", "s16", "f16", "bf16")},
    **{name: 32 for name in ("b32", "u32", "s32", "f32", "f16x2", "bf16x2", "tf32")},
    **{name: 64 for name in ("b64", "u64", "s64", "f64")},
    "pred": 8,
}
"""Bits of each type of PTX."""

SPACES = ("param", "global", "shared", "local", "const")
FLOATS = ("f16", "bf16", "f32", "f64", "f16x2", "bf16x2")


class Unsupported(Exception):
    """The emulator cannot translate an instruction."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: `@guard name.modifiers operands`."""

    name: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    site: str
    """The place in the kernel's source, as a C++ string."""

    @property
    def types(self) -> list[str]:
        """The types among the modifiers."""
        return [m for m in self.modifiers if m in WIDTHS]

    @property
    def type(self) -> str:
        """The last type: that of the operands."""
        return self.types[-1] if self.types else "b32"

    def has(self, *modifiers: str) -> bool:
        """Whether one of these modifiers is present."""
        return any(m in self.modifiers for m in modifiers)

    def one_of(self, *modifiers: str) -> str:
        """The first of these modifiers that is present."""
        for m in modifiers:
            if m in self.modifiers:
                return m
        raise Unsupported


class Scope(Protocol):
    """The function around an instruction: its registers, labels and arrays, by their C++ names."""

    flushes_itself: bool

    def value(self, operand: str, kind: str) -> str:
        """An operand as a C++ value of a PTX type."""

    def assign(self, register: str, kind: str, expression: str) -> str:
        """The statement that gives a register a value of a PTX type."""

    def address(self, operand: str, space: str) -> str:
        """`[name+4]` as a C++ expression of type u64."""

    def label(self, name: str) -> str:
        """The C++ name of a label."""

    def targets(self, table: str) -> list[str]:
        """The labels of a `.branchtargets` table."""

    def call(self, name: str, results: list[str], arguments: list[str]) -> str:
        """A call of a device function."""


Translation = Callable[[Scope, Instruction], str]
"""Writes the C++ statements of one instruction. Raises `Unsupported`."""


def entering(table: dict[str, Translation]) -> Callable[..., Callable[[Translation], Translation]]:
    """`@translates("add", "sub")` then enters a function into `table` under these names."""

    def translates(*instructions: str) -> Callable[[Translation], Translation]:
        def enter(function: Translation) -> Translation:
            for name in instructions:
                table[name] = function
            return function

        return enter

    return translates


def cpp_type(kind: str) -> str:
    """The C++ type of a PTX type: bits are unsigned integers."""
    if kind == "pred":
        return "bool"
    return kind.replace("b", "u", 1) if kind in ("b8", "b16", "b32", "b64") else kind


def bits(kind: str) -> str:
    """The type for a value that an instruction of this type only moves: bits in place of floats."""
    return f"b{WIDTHS[kind]}" if kind in FLOATS else kind


def parts(operand: str) -> list[str]:
    """The registers of `{a, b}` or of `a|b`, or the operand alone."""
    return [p.strip() for p in re.split(r"[,|]", operand.strip("{} "))]


def element(kind: str) -> str:
    """The template argument of ptx.h: the element of a pair."""
    return cpp_type(kind).removesuffix("x2")
