"""PTX instructions that move values: between registers, and from and to memory."""

from __future__ import annotations

from .ptx_instruction import (
    SPACES,
    WIDTHS,
    Instruction,
    Scope,
    Translation,
    Unsupported,
    bits,
    cpp_type,
    element,
    entering,
    parts,
)

TABLE: dict[str, Translation] = {}
"""The translation of each instruction, by its name."""

_translates = entering(TABLE)


@_translates("mov")
def _move(scope: Scope, ins: Instruction) -> str:
    target, source = ins.operands
    width = WIDTHS[ins.type]
    if target.startswith("{"):
        registers = parts(target)
        piece = width // len(registers)
        code = f"u64 m = {scope.value(source, f'b{width}')}; "
        for i, register in enumerate(registers):
            code += scope.assign(register, f"b{piece}", f"(u{piece})(m >> {i * piece})") if register != "_" else ""
        return code
    if source.startswith("{"):
        registers = parts(source)
        piece = width // len(registers)
        joined = " | ".join(f"(u64){scope.value(r, f'b{piece}')} << {i * piece}" for i, r in enumerate(registers))
        return scope.assign(target, f"b{width}", f"(u{width})({joined})")
    kind = bits(ins.type)
    return scope.assign(target, kind, scope.value(source, kind))


@_translates("cvta")
def _address_of_space(scope: Scope, ins: Instruction) -> str:
    value = scope.value(ins.operands[1], "u64")
    if ins.has("shared"):
        value = f"{value} - (u64)S" if ins.has("to") else f"(u64)S + {value}"
    return scope.assign(ins.operands[0], "u64", value)


@_translates("isspacep")
def _is_space(scope: Scope, ins: Instruction) -> str:
    inside = f"{scope.value(ins.operands[1], 'u64')} - (u64)S < (1 << 18)"
    space = ins.one_of("shared", "global")
    return scope.assign(ins.operands[0], "pred", inside if space == "shared" else f"!({inside})")


def _space(ins: Instruction) -> str:
    return next((m for m in ins.modifiers if m in SPACES), "generic")


def _access(ins: Instruction, size: int, write: bool) -> str:
    """The call of the checker, for memory that threads may share."""
    if _space(ins) in ("param", "local", "const"):
        return ""
    return f"ACCESS(a, {size}, {str(write).lower()}, {ins.site}); "


@_translates("ld", "ldu")
def _load(scope: Scope, ins: Instruction) -> str:
    registers, kind, width = parts(ins.operands[0]), bits(ins.type), WIDTHS[ins.type] // 8
    code = f"u64 a = {scope.address(ins.operands[1], _space(ins))}; " + _access(ins, width * len(registers), False)
    for i, register in enumerate(registers):
        if register != "_":
            code += scope.assign(register, kind, f"load<{cpp_type(kind)}>(a + {i * width})")
    return code


@_translates("st")
def _store(scope: Scope, ins: Instruction) -> str:
    registers, kind, width = parts(ins.operands[1]), bits(ins.type), WIDTHS[ins.type] // 8
    code = f"u64 a = {scope.address(ins.operands[0], _space(ins))}; " + _access(ins, width * len(registers), True)
    for i, register in enumerate(registers):
        code += f"store<{cpp_type(kind)}>(a + {i * width}, {scope.value(register, kind)}); "
    return code


_UPDATES = {
    "add": "add_<{t}>(o, b)",
    "min": "min_<{t}>(o, b)",
    "max": "max_<{t}>(o, b)",
    "and": "o & b",
    "or": "o | b",
    "xor": "o ^ b",
    "exch": "b",
    "cas": "o == b ? c : o",
    "inc": "o >= b ? 0 : o + 1",
    "dec": "o == 0 || o > b ? b : o - 1",
}


@_translates("atom", "red")
def _atomic(scope: Scope, ins: Instruction) -> str:
    if ins.has("v2", "v4", "v8"):
        raise Unsupported
    kind, to, first = ins.type, cpp_type(ins.type), 1 if ins.name == "atom" else 0
    update = _UPDATES[ins.one_of(*_UPDATES)].format(t=element(kind))
    code = f"u64 a = {scope.address(ins.operands[first], _space(ins))}; "
    code += f"NOTE_ATOMIC(a, {WIDTHS[kind] // 8}, {ins.site}); "
    code += f"{to} b = {scope.value(ins.operands[first + 1], kind)}; "
    if ins.has("cas"):
        code += f"{to} c = {scope.value(ins.operands[first + 2], kind)}; "
    code += f"{to} o = load<{to}>(a); store<{to}>(a, {update}); "
    return code + (scope.assign(ins.operands[0], kind, "o") if ins.name == "atom" and ins.operands[0] != "_" else "")


@_translates("membar", "fence")
def _fence(_: Scope, ins: Instruction) -> str:
    """Only a fence of the whole GPU orders blocks."""
    return "gpu_fence();" if ins.has("gl", "gpu", "sys") else ""


@_translates("prefetch", "prefetchu", "nanosleep", "griddepcontrol", "discard", "applypriority")
def _nothing(_: Scope, __: Instruction) -> str:
    return ""


@_translates("cp")
def _copy(scope: Scope, ins: Instruction) -> str:
    """cp.async: the destination is filled by the wait, not earlier."""
    if not ins.has("async") or ins.has("bulk", "mbarrier", "reduce"):
        raise Unsupported
    if ins.has("commit_group"):
        return "gpu_copy_commit();"
    if ins.has("wait_all"):
        return "gpu_copy_wait(GPU_WAIT_ALL);"
    if ins.has("wait_group"):
        return f"gpu_copy_wait({ins.operands[0]});"
    to, source = scope.address(ins.operands[0], "shared"), scope.address(ins.operands[1], "global")
    size = int(ins.operands[2], 0)
    source_size = scope.value(ins.operands[3], "u32") if len(ins.operands) > 3 else str(size)
    return (
        f"u64 t = {to}, f = {source}; u32 n = {source_size}; "
        f"gpu_copy_async((void*)t, (const void*)f, {size}, n < {size} ? n : {size}, {ins.site});"
    )
