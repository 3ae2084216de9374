"""PTX instructions as C++ statements: one entry of a table for each, in the vocabulary of `source/ptx.h`."""

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
_FLOATS = ("f16", "bf16", "f32", "f64", "f16x2", "bf16x2")


class Unsupported(Exception):
    """The emulator has no translation of an instruction."""


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


class Names(Protocol):
    """What the translation asks of the function around an instruction."""

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


Translation = Callable[[Names, Instruction], str]
_TABLE: dict[str, Translation] = {}


def translate(names: Names, instruction: Instruction) -> str:
    """The C++ statements of one instruction. Raises `Unsupported`."""
    if instruction.name not in _TABLE:
        raise Unsupported
    return _TABLE[instruction.name](names, instruction)


def _translates(*instructions: str) -> Callable[[Translation], Translation]:
    def enter(function: Translation) -> Translation:
        for name in instructions:
            _TABLE[name] = function
        return function

    return enter


def cpp_type(kind: str) -> str:
    """The C++ type of a PTX type: bits are unsigned integers."""
    if kind == "pred":
        return "bool"
    return kind.replace("b", "u", 1) if kind in ("b8", "b16", "b32", "b64") else kind


def parts(operand: str) -> list[str]:
    """The registers of `{a, b}` or of `a|b`, or the operand alone."""
    return [p.strip() for p in re.split(r"[,|]", operand.strip("{} "))]


# ---------------------------------------------------------------- values of one type


def _operands(names: Names, ins: Instruction, kind: str, first: int = 1, count: int | None = None) -> list[str]:
    """The source operands as values, flushed if the instruction says so and the processor does not do it."""
    chosen = ins.operands[first:] if count is None else ins.operands[first : first + count]
    values = [names.value(o, kind) for o in chosen]
    software = ins.has("ftz") and kind == "f32" and not names.flushes_itself
    return [f"flush({v})" for v in values] if software else values


def _result(names: Names, ins: Instruction, kind: str, expression: str) -> str:
    if ins.has("sat") and kind in _FLOATS:
        expression = f"saturate<{cpp_type(kind)}>({expression})"
    if ins.has("ftz") and kind == "f32" and not names.flushes_itself:
        expression = f"flush({expression})"
    return names.assign(ins.operands[0], kind, expression)


_DIRECTIONS = {"rz": "toward_zero", "rm": "toward_minus", "rp": "toward_plus"}


def _directed(ins: Instruction) -> str | None:
    """The function that rounds as the instruction says, if that is not to the nearest float."""
    return next((f for m, f in _DIRECTIONS.items() if ins.has(m) and ins.type == "f32"), None)


@_translates("add", "sub", "mul")
def _arithmetic(names: Names, ins: Instruction) -> str:
    kind = ins.type
    if ins.has("cc"):
        return _with_carry(names, ins)
    if ins.name == "mul" and kind not in _FLOATS:
        return _integer_product(names, ins)
    a, b = _operands(names, ins, kind)
    if direction := _directed(ins):
        sign = {"add": "+", "sub": "-", "mul": "*"}[ins.name]
        return _result(names, ins, kind, f"{direction}((f64){a} {sign} (f64){b})")
    if ins.has("sat") and kind == "s32":
        sign = "+" if ins.name == "add" else "-"
        return names.assign(ins.operands[0], kind, f"clamped<s32>((s64){a} {sign} (s64){b})")
    return _result(names, ins, kind, f"{ins.name}_<{_element(kind)}>({a}, {b})")


def _element(kind: str) -> str:
    """The template argument of ptx.h: the element of a pair."""
    return cpp_type(kind).removesuffix("x2")


@_translates("addc", "subc")
def _with_carry(names: Names, ins: Instruction) -> str:
    kind = "u" + ins.type[1:]
    a, b = _operands(names, ins, kind)
    carry = "+ carry" if ins.name == "addc" else "- carry" if ins.name == "subc" else ""
    sign = "+" if ins.name.startswith("add") else "-"
    return (
        f"unsigned __int128 w = (unsigned __int128){a} {sign} {b} {carry}; carry = w >> {WIDTHS[kind]} & 1; "
        + names.assign(ins.operands[0], kind, f"({kind})w")
    )


def _integer_product(names: Names, ins: Instruction) -> str:
    kind, wide = ins.type, f"{ins.type[0]}{2 * WIDTHS[ins.type]}"
    a, b = _operands(names, ins, kind, count=2)
    if ins.has("wide"):
        product, result = f"({wide}){a} * ({wide}){b}", wide
    else:
        half = "mul_hi" if ins.has("hi") else "mul_lo"
        product, result = f"{half}<{cpp_type(kind)}>({a}, {b})", kind
    if ins.name == "mad":
        product = f"({cpp_type(result)})({product} + {names.value(ins.operands[3], result)})"
        if ins.has("sat"):
            product = f"clamped<s32>(((s64){a} * (s64){b} >> 32) + {names.value(ins.operands[3], kind)})"
    return names.assign(ins.operands[0], result, product)


@_translates("mad", "fma")
def _multiply_add(names: Names, ins: Instruction) -> str:
    if ins.type not in _FLOATS:
        return _integer_product(names, ins)
    a, b, c = _operands(names, ins, ins.type)
    if direction := _directed(ins):
        return _result(names, ins, ins.type, f"{direction}((f64){a} * (f64){b} + (f64){c})")
    product = f"fma_({a}, {b}, {c})"
    if ins.has("relu"):
        zero = "{}" if ins.type.endswith("x2") else "0"
        product = f"max_nan<{_element(ins.type)}>({product}, {cpp_type(ins.type)}({zero}))"
    return _result(names, ins, ins.type, product)


@_translates("mul24", "mad24")
def _product24(names: Names, ins: Instruction) -> str:
    kind = ins.type
    values = _operands(names, ins, kind)
    wide = "s64" if kind == "s32" else "u64"
    product = f"({wide})low24({values[0]}) * ({wide})low24({values[1]})"
    expression = f"({kind})({product} >> 16)" if ins.has("hi") else f"({kind})({product})"
    return names.assign(ins.operands[0], kind, expression + (f" + {values[2]}" if ins.name == "mad24" else ""))


@_translates("div", "rem")
def _quotient(names: Names, ins: Instruction) -> str:
    a, b = _operands(names, ins, ins.type)
    if direction := _directed(ins):
        return _result(names, ins, ins.type, f"{direction}((f64){a} / (f64){b})")
    return _result(names, ins, ins.type, f"{ins.name}_<{cpp_type(ins.type)}>({a}, {b})")


@_translates("min", "max")
def _extremum(names: Names, ins: Instruction) -> str:
    function = ins.name + ("_nan" if ins.has("NaN") else "_")
    values = _operands(names, ins, ins.type)
    nested = values[0]
    for v in values[1:]:
        nested = f"{function}<{_element(ins.type)}>({nested}, {v})"
    if ins.has("xorsign"):
        raise Unsupported
    return _result(names, ins, ins.type, nested)


@_translates("neg", "abs", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
def _unary(names: Names, ins: Instruction) -> str:
    return _result(names, ins, ins.type, f"{ins.name}_<{_element(ins.type)}>({_operands(names, ins, ins.type)[0]})")


@_translates("sqrt", "rcp")
def _root(names: Names, ins: Instruction) -> str:
    a = _operands(names, ins, ins.type)[0]
    if direction := _directed(ins):
        exact = f"sqrt((f64){a})" if ins.name == "sqrt" else f"(1 / (f64){a})"
        return _result(names, ins, ins.type, f"{direction}({exact})")
    return _result(names, ins, ins.type, f"{ins.name}_<{cpp_type(ins.type)}>({a})")


@_translates("copysign")
def _copysign(names: Names, ins: Instruction) -> str:
    a, b = _operands(names, ins, ins.type)
    return names.assign(ins.operands[0], ins.type, f"copysign_<{cpp_type(ins.type)}>({a}, {b})")


_TESTS = {
    "finite": "__builtin_isfinite({})",
    "infinite": "__builtin_isinf({})",
    "number": "!__builtin_isnan({})",
    "notanumber": "__builtin_isnan({})",
    "normal": "__builtin_isnormal({})",
    "subnormal": "(__builtin_fpclassify(0, 1, 2, 3, 4, {}) == 3)",
}


@_translates("testp")
def _test(names: Names, ins: Instruction) -> str:
    test = _TESTS[ins.one_of(*_TESTS)]
    return names.assign(ins.operands[0], "pred", test.format(names.value(ins.operands[1], ins.type)))


# ---------------------------------------------------------------- bits


@_translates("and", "or", "xor")
def _logic(names: Names, ins: Instruction) -> str:
    sign = {"and": "&", "or": "|", "xor": "^"}[ins.name]
    a, b = _operands(names, ins, ins.type)
    return names.assign(ins.operands[0], ins.type, f"({cpp_type(ins.type)})({a} {sign} {b})")


@_translates("not")
def _not(names: Names, ins: Instruction) -> str:
    sign = "!" if ins.type == "pred" else "~"
    return names.assign(ins.operands[0], ins.type, f"({cpp_type(ins.type)}){sign}{_operands(names, ins, ins.type)[0]}")


@_translates("cnot", "brev")
def _same_type(names: Names, ins: Instruction) -> str:
    return names.assign(ins.operands[0], ins.type, f"{ins.name}_({_operands(names, ins, ins.type)[0]})")


@_translates("popc", "clz")
def _count(names: Names, ins: Instruction) -> str:
    return names.assign(ins.operands[0], "u32", f"{ins.name}_({_operands(names, ins, ins.type)[0]})")


@_translates("bfind")
def _find(names: Names, ins: Instruction) -> str:
    found = f"bfind_<{cpp_type(ins.type)}>({names.value(ins.operands[1], ins.type)})"
    if ins.has("shiftamt"):
        return f"u32 f = {found}; " + names.assign(ins.operands[0], "u32", f"f == ~0u ? f : {WIDTHS[ins.type] - 1} - f")
    return names.assign(ins.operands[0], "u32", found)


@_translates("shl", "shr")
def _shift(names: Names, ins: Instruction) -> str:
    a, n = names.value(ins.operands[1], ins.type), names.value(ins.operands[2], "u32")
    return names.assign(ins.operands[0], ins.type, f"{ins.name}_<{cpp_type(ins.type)}>({a}, {n})")


@_translates("shf")
def _funnel(names: Names, ins: Instruction) -> str:
    low, high, n = _operands(names, ins, "u32")
    amount = f"({n} & 31)" if ins.has("wrap") else f"({n} > 32 ? 32 : {n})"
    return names.assign(ins.operands[0], "u32", f"shf_{ins.one_of('l', 'r')}({low}, {high}, {amount})")


@_translates("sad")
def _sad(names: Names, ins: Instruction) -> str:
    a, b, c = _operands(names, ins, ins.type)
    return names.assign(ins.operands[0], ins.type, f"sad_<{cpp_type(ins.type)}>({a}, {b}, {c})")


@_translates("bfe")
def _extract(names: Names, ins: Instruction) -> str:
    position, length = (names.value(o, "u32") for o in ins.operands[2:])
    a = names.value(ins.operands[1], ins.type)
    return names.assign(ins.operands[0], ins.type, f"bfe_<{cpp_type(ins.type)}>({a}, {position}, {length})")


@_translates("bfi")
def _insert(names: Names, ins: Instruction) -> str:
    a, b = (names.value(o, ins.type) for o in ins.operands[1:3])
    position, length = (names.value(o, "u32") for o in ins.operands[3:])
    return names.assign(ins.operands[0], ins.type, f"bfi_<{cpp_type(ins.type)}>({a}, {b}, {position}, {length})")


@_translates("lop3")
def _lop3(names: Names, ins: Instruction) -> str:
    if ins.has("and", "or"):
        raise Unsupported
    a, b, c = (names.value(o, "u32") for o in ins.operands[1:4])
    return names.assign(ins.operands[0], "u32", f"lop3_<u32>({a}, {b}, {c}, {ins.operands[4]})")


@_translates("prmt")
def _permute(names: Names, ins: Instruction) -> str:
    a, b, selector = _operands(names, ins, "u32")
    modes = [m for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16") if ins.has(m)]
    function = f"prmt_mode(PRMT_{modes[0].upper()}, " if modes else "prmt_("
    return names.assign(ins.operands[0], "u32", f"{function}{a}, {b}, {selector})")


@_translates("fns")
def _nth_set(names: Names, ins: Instruction) -> str:
    mask, base = (names.value(o, "u32") for o in ins.operands[1:3])
    return names.assign(ins.operands[0], "u32", f"fns_({mask}, {base}, {names.value(ins.operands[3], 's32')})")


@_translates("dp4a", "dp2a")
def _dot(names: Names, ins: Instruction) -> str:
    left, right = ins.types[0], ins.types[1]
    size = "16" if ins.name == "dp2a" else "8"
    a, b, c = _operands(names, ins, "u32")
    half = f", {int(ins.has('hi'))}" if ins.name == "dp2a" else ""
    return names.assign(ins.operands[0], "u32", f"{ins.name}_<{left[0]}{size}, {right[0]}8>({a}, {b}, {c}{half})")


# ---------------------------------------------------------------- choice and comparison

_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}


def _comparison(names: Names, ins: Instruction, kind: str, first: int) -> str:
    """`a op b`. With a NaN, the ordered comparisons are false and those that end in u are true."""
    a, b = _operands(names, ins, kind, first, 2)
    ordered = f"({a} == {a} && {b} == {b})"
    if ins.has("num"):
        return ordered
    if ins.has("nan"):
        return f"!{ordered}"
    for name, sign in _UNSIGNED.items():
        if ins.has(name):
            return f"({a} {sign} {b})"
    for name, sign in _COMPARISONS.items():
        if ins.has(name):
            return f"({ordered} && {a} != {b})" if name == "ne" and kind in _FLOATS else f"({a} {sign} {b})"
        if ins.has(name + "u"):
            return f"(!{ordered} || {a} {sign} {b})"
    raise Unsupported


@_translates("setp")
def _set_predicate(names: Names, ins: Instruction) -> str:
    if ins.type.endswith("x2"):
        raise Unsupported
    truth = _comparison(names, ins, ins.type, 1)
    targets = parts(ins.operands[0])
    combined, opposite = truth, f"!{truth}"
    for name, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
        if ins.has(name):
            other = names.value(ins.operands[3], "pred")
            combined, opposite = f"({truth}) {sign} {other}", f"(!{truth}) {sign} {other}"
    code = f"bool p = {combined}, q = {opposite}; " if len(targets) > 1 else f"bool p = {combined}; "
    code += names.assign(targets[0], "pred", "p")
    return code + (names.assign(targets[1], "pred", "q") if len(targets) > 1 else "")


@_translates("set")
def _set(names: Names, ins: Instruction) -> str:
    result, kind = ins.types[0], ins.types[1]
    yes = "1.0f" if result == "f32" else "~0u"
    return names.assign(ins.operands[0], result, f"{_comparison(names, ins, kind, 1)} ? {yes} : 0")


@_translates("selp")
def _select(names: Names, ins: Instruction) -> str:
    a, b = (names.value(o, ins.type) for o in ins.operands[1:3])
    return names.assign(ins.operands[0], ins.type, f"{names.value(ins.operands[3], 'pred')} ? {a} : {b}")


@_translates("slct")
def _select_by_sign(names: Names, ins: Instruction) -> str:
    a, b = (names.value(o, ins.types[0]) for o in ins.operands[1:3])
    return names.assign(ins.operands[0], ins.types[0], f"{names.value(ins.operands[3], ins.types[1])} >= 0 ? {a} : {b}")


# ---------------------------------------------------------------- moves and conversions


@_translates("mov")
def _move(names: Names, ins: Instruction) -> str:
    target, source = ins.operands
    width = WIDTHS[ins.type]
    if target.startswith("{"):
        registers = parts(target)
        piece = width // len(registers)
        code = f"u64 m = {names.value(source, f'b{width}')}; "
        for i, register in enumerate(registers):
            code += names.assign(register, f"b{piece}", f"(u{piece})(m >> {i * piece})") if register != "_" else ""
        return code
    if source.startswith("{"):
        registers = parts(source)
        piece = width // len(registers)
        joined = " | ".join(f"(u64){names.value(r, f'b{piece}')} << {i * piece}" for i, r in enumerate(registers))
        return names.assign(target, f"b{width}", f"(u{width})({joined})")
    return names.assign(target, ins.type, names.value(source, ins.type))


@_translates("cvta")
def _address_of_space(names: Names, ins: Instruction) -> str:
    value = names.value(ins.operands[1], "u64")
    if ins.has("shared"):
        value = f"{value} - (u64)S" if ins.has("to") else f"(u64)S + {value}"
    return names.assign(ins.operands[0], "u64", value)


@_translates("isspacep")
def _is_space(names: Names, ins: Instruction) -> str:
    inside = f"{names.value(ins.operands[1], 'u64')} - (u64)S < (1 << 18)"
    space = ins.one_of("shared", "global")
    return names.assign(ins.operands[0], "pred", inside if space == "shared" else f"!({inside})")


_INTEGRAL = {
    **{m: "rint" for m in ("rni", "rn")},
    **{m: "trunc" for m in ("rzi", "rz")},
    **{m: "floor" for m in ("rmi", "rm")},
    **{m: "ceil" for m in ("rpi", "rp")},
}


@_translates("cvt")
def _convert(names: Names, ins: Instruction) -> str:
    target, source = ins.types[-2:]
    if ins.operands[2:]:
        return _convert_pair(names, ins, target)
    value = _operands(names, ins, source)[0]
    if target == "tf32":
        return names.assign(ins.operands[0], "b32", f"tf32_nearest({value})")
    to, real = cpp_type(target), source in _FLOATS
    if real and target not in _FLOATS:
        value = f"integer_of<{to}>({_INTEGRAL[ins.one_of(*_INTEGRAL)]}((f64){value}))"
    elif real and ins.has("rni", "rzi", "rmi", "rpi"):
        value = f"({to}){_INTEGRAL[ins.one_of('rni', 'rzi', 'rmi', 'rpi')]}((f64){value})"
    elif target == "f32" and ins.has(*_DIRECTIONS):
        value = f"{_DIRECTIONS[ins.one_of(*_DIRECTIONS)]}((f64){value})"
    elif target in ("f16", "bf16") and ins.has("rz", "rm", "rp"):
        raise Unsupported
    elif ins.has("sat") and not real and target not in _FLOATS:
        return names.assign(ins.operands[0], target, f"clamped<{to}>({value})")
    else:
        value = f"convert<{to}>({value})"
    if ins.has("relu"):
        value = f"max_nan<{to}>({value}, ({to})0.0f)"
    return _result(names, ins, target, value)


def _convert_pair(names: Names, ins: Instruction, target: str) -> str:
    """`cvt.rn.f16x2.f32 d, high, low`."""
    if target not in ("f16x2", "bf16x2") or not ins.has("rn"):
        raise Unsupported
    element = target.removesuffix("x2")
    high, low = (f"convert<{element}>({v})" for v in _operands(names, ins, "f32"))
    if ins.has("relu"):
        high, low = (f"max_nan<{element}>({v}, ({element})0.0f)" for v in (high, low))
    return names.assign(ins.operands[0], target, f"{target}{{{low}, {high}}}")


# ---------------------------------------------------------------- memory


def _space(ins: Instruction) -> str:
    return next((m for m in ins.modifiers if m in SPACES), "generic")


def _noted(ins: Instruction, size: int, write: bool) -> str:
    """The call of the checker, for memory that threads may share."""
    if _space(ins) in ("param", "local", "const"):
        return ""
    return f"ACCESS(a, {size}, {str(write).lower()}, {ins.site}); "


@_translates("ld", "ldu")
def _load(names: Names, ins: Instruction) -> str:
    registers, width = parts(ins.operands[0]), WIDTHS[ins.type] // 8
    code = f"u64 a = {names.address(ins.operands[1], _space(ins))}; " + _noted(ins, width * len(registers), False)
    for i, register in enumerate(registers):
        if register != "_":
            code += names.assign(register, ins.type, f"load<{cpp_type(ins.type)}>(a + {i * width})")
    return code


@_translates("st")
def _store(names: Names, ins: Instruction) -> str:
    registers, width = parts(ins.operands[1]), WIDTHS[ins.type] // 8
    code = f"u64 a = {names.address(ins.operands[0], _space(ins))}; " + _noted(ins, width * len(registers), True)
    for i, register in enumerate(registers):
        code += f"store<{cpp_type(ins.type)}>(a + {i * width}, {names.value(register, ins.type)}); "
    return code


_UPDATES = {
    "add": "add_<{t}>(o, b)",
    "min": "min_<{t}>(o, b)",
    "max": "max_<{t}>(o, b)",
    "and": "o & b",
    "or": "o | b",
    "xor": "o ^ b",
    "exch": "b",
    "cas": "raw(o) == raw(b) ? c : o",
    "inc": "o >= b ? 0 : o + 1",
    "dec": "o == 0 || o > b ? b : o - 1",
}


@_translates("atom", "red")
def _atomic(names: Names, ins: Instruction) -> str:
    if ins.has("v2", "v4", "v8"):
        raise Unsupported
    kind, to, first = ins.type, cpp_type(ins.type), 1 if ins.name == "atom" else 0
    update = _UPDATES[ins.one_of(*_UPDATES)].format(t=_element(kind))
    code = f"u64 a = {names.address(ins.operands[first], _space(ins))}; "
    code += f"NOTE_ATOMIC(a, {WIDTHS[kind] // 8}, {ins.site}); "
    code += f"{to} b = {names.value(ins.operands[first + 1], kind)}; "
    if ins.has("cas"):
        code += f"{to} c = {names.value(ins.operands[first + 2], kind)}; "
    code += f"{to} o = load<{to}>(a); store<{to}>(a, {update}); "
    return code + (names.assign(ins.operands[0], kind, "o") if ins.name == "atom" and ins.operands[0] != "_" else "")


@_translates("membar", "fence", "prefetch", "prefetchu", "nanosleep", "griddepcontrol", "discard", "applypriority")
def _nothing(_: Names, __: Instruction) -> str:
    return ""


@_translates("cp")
def _copy(names: Names, ins: Instruction) -> str:
    """cp.async: the destination is filled by the wait, and not before."""
    if not ins.has("async") or ins.has("bulk", "mbarrier", "reduce"):
        raise Unsupported
    if ins.has("commit_group"):
        return "gpu_copy_commit();"
    if ins.has("wait_all"):
        return "gpu_copy_wait(GPU_WAIT_ALL);"
    if ins.has("wait_group"):
        return f"gpu_copy_wait({ins.operands[0]});"
    to, source = names.address(ins.operands[0], "shared"), names.address(ins.operands[1], "global")
    size = int(ins.operands[2], 0)
    given = names.value(ins.operands[3], "u32") if len(ins.operands) > 3 else str(size)
    return (
        f"u64 t = {to}, f = {source}; u32 n = {given}; "
        f"gpu_copy_async((void*)t, (const void*)f, {size}, n < {size} ? n : {size}, {ins.site});"
    )


# ---------------------------------------------------------------- control


@_translates("bra")
def _branch(names: Names, ins: Instruction) -> str:
    return f"goto {names.label(ins.operands[0])};"


@_translates("brx")
def _branch_table(names: Names, ins: Instruction) -> str:
    cases = " ".join(f"case {i}: goto {names.label(label)};" for i, label in enumerate(names.targets(ins.operands[1])))
    return f"switch ({names.value(ins.operands[0], 'u32')}) {{ {cases} }}"


@_translates("ret")
def _return(_: Names, __: Instruction) -> str:
    return "return;"


@_translates("exit")
def _exit(_: Names, __: Instruction) -> str:
    return "gpu_exit();"


@_translates("trap", "brkpt")
def _trap(_: Names, ins: Instruction) -> str:
    return f"gpu_stop(GPU_TRAP, {ins.site}, nullptr);"


@_translates("call")
def _call(names: Names, ins: Instruction) -> str:
    operands = list(ins.operands)
    results = parts(operands.pop(0).strip("()")) if operands[0].startswith("(") else []
    name = operands.pop(0)
    arguments = [p for p in parts(operands[0].strip("()")) if p] if operands else []
    if name == "__assertfail":
        return f"gpu_stop(GPU_ASSERTION, {ins.site}, *(const char**){names.value(arguments[0], 'param')});"
    return names.call(name, results, arguments)


@_translates("bar", "barrier")
def _barrier(names: Names, ins: Instruction) -> str:
    if ins.has("warp"):
        return f"gpu_warp_sync({names.value(ins.operands[0], 'u32')}, {ins.site});"
    whole = all(o == "0" for o in ins.operands[:1]) if ins.has("sync") else ins.operands[1] == "0"
    if not whole or ins.has("arrive", "cluster") or (ins.has("sync") and len(ins.operands) > 1):
        raise Unsupported
    if ins.has("sync"):
        return f"gpu_barrier({ins.site});"
    predicate = names.value(ins.operands[-1], "pred")
    if ins.has("popc"):
        return names.assign(ins.operands[0], "u32", f"gpu_barrier_count({ins.site}, {predicate})")
    if ins.has("or"):
        return names.assign(ins.operands[0], "pred", f"gpu_barrier_count({ins.site}, {predicate}) != 0")
    return names.assign(ins.operands[0], "pred", f"gpu_barrier_count({ins.site}, !{predicate}) == 0")


# ---------------------------------------------------------------- lanes of a warp


@_translates("shfl")
def _shuffle(names: Names, ins: Instruction) -> str:
    targets = parts(ins.operands[0])
    value, b, c, mask = (names.value(o, "u32") for o in ins.operands[1:5])
    mode = ins.one_of("up", "down", "bfly", "idx").upper()
    code = f"Shuffled s = shfl_(SHFL_{mode}, {value}, {b}, {c}, {mask}, {ins.site}); "
    code += names.assign(targets[0], "b32", "s.value") if targets[0] != "_" else ""
    return code + (names.assign(targets[1], "pred", "s.inside") if len(targets) > 1 else "")


@_translates("vote")
def _vote(names: Names, ins: Instruction) -> str:
    predicate, mask = names.value(ins.operands[1], "pred"), names.value(ins.operands[2], "u32")
    code = f"GpuVote v = vote_<GPU_BALLOT>({mask}, {predicate}, {ins.site}); "
    if ins.has("ballot"):
        return code + names.assign(ins.operands[0], "b32", "v.result")
    truth = {"any": "v.result != 0", "all": "v.result == v.group", "uni": "v.result == 0 || v.result == v.group"}
    return code + names.assign(ins.operands[0], "pred", truth[ins.one_of(*truth)])


@_translates("match")
def _match(names: Names, ins: Instruction) -> str:
    targets = parts(ins.operands[0])
    value, mask = names.value(ins.operands[1], ins.type), names.value(ins.operands[2], "u32")
    code = f"GpuVote v = vote_<GPU_MATCH>({mask}, {value}, {ins.site}); "
    if ins.has("any"):
        return code + names.assign(targets[0], "b32", "v.result")
    code += names.assign(targets[0], "b32", "v.result == v.group ? v.group : 0")
    return code + (names.assign(targets[1], "pred", "v.result == v.group") if len(targets) > 1 else "")


@_translates("redux")
def _reduce(names: Names, ins: Instruction) -> str:
    if ins.type == "f32":
        raise Unsupported
    name = ins.one_of("add", "min", "max", "and", "or", "xor").upper()
    signed = "S" if ins.type == "s32" and name in ("MIN", "MAX") else ""
    value, mask = (names.value(o, "u32") for o in ins.operands[1:3])
    return names.assign(ins.operands[0], "b32", f"vote_<GPU_{signed}{name}>({mask}, {value}, {ins.site}).result")


@_translates("elect")
def _elect(names: Names, ins: Instruction) -> str:
    targets = parts(ins.operands[0])
    code = f"GpuVote v = vote_<GPU_BALLOT>({names.value(ins.operands[1], 'u32')}, true, {ins.site}); "
    code += "int first = __builtin_ctz(v.group); "
    code += names.assign(targets[0], "b32", "first") if targets[0] != "_" else ""
    return code + names.assign(targets[1], "pred", "gpu_lane == first")


@_translates("activemask")
def _active(names: Names, ins: Instruction) -> str:
    return names.assign(ins.operands[0], "b32", "gpu_warp_present()")


# ---------------------------------------------------------------- matrices

_SHAPES = {
    ("m16n8k8", "tf32"): (8, 4, 2),
    ("m16n8k4", "tf32"): (4, 2, 1),
    ("m16n8k16", "f16"): (16, 4, 2),
    ("m16n8k8", "f16"): (8, 2, 1),
    ("m16n8k16", "bf16"): (16, 4, 2),
    ("m16n8k8", "bf16"): (8, 2, 1),
}
"""(shape, type of A and B): K and how many registers hold A and B. Accumulators are four floats."""


@_translates("mma")
def _mma(names: Names, ins: Instruction) -> str:
    shape, types = next((m for m in ins.modifiers if re.fullmatch(r"m\d+n\d+k\d+", m)), ""), ins.types
    if len(types) != 4 or types[0] != "f32" or types[3] != "f32" or (shape, types[1]) not in _SHAPES:
        raise Unsupported
    if types[1] != types[2] or not ins.has("row") or not ins.has("col"):
        raise Unsupported
    k = _SHAPES[shape, types[1]][0]
    d, a, b, c = (parts(o) for o in ins.operands)
    values = [", ".join(names.value(r, "u32") for r in group) for group in (a, b)]
    sums = ", ".join(names.value(r, "f32") for r in c)
    code = f"GpuMatrices m{{{{{values[0]}}}, {{{values[1]}}}, {{{sums}}}}}; mma_<{k}, {types[1]}>(&m, {ins.site}); "
    return code + "".join(names.assign(r, "f32", f"m.c[{i}]") for i, r in enumerate(d))


@_translates("ldmatrix")
def _load_matrix(names: Names, ins: Instruction) -> str:
    if not ins.has("m8n8") or ins.type != "b16":
        raise Unsupported
    registers = parts(ins.operands[0])
    address = names.address(ins.operands[1], "shared" if ins.has("shared") else "generic")
    transposed = str(ins.has("trans")).lower()
    code = f"GpuMatrixRows r = ldmatrix_<{len(registers)}, {transposed}>({address}, {ins.site}); "
    return code + "".join(names.assign(r, "b32", f"r.registers[{i}]") for i, r in enumerate(registers))
