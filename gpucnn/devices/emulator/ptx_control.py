"""PTX instructions that steer a thread: branches, calls, barriers."""

from __future__ import annotations

from .ptx_instruction import Instruction, Scope, Translation, Unsupported, entering, parts

TABLE: dict[str, Translation] = {}
"""The translation of each instruction, by its name."""

_translates = entering(TABLE)


@_translates("bra")
def _branch(scope: Scope, ins: Instruction) -> str:
    return f"goto {scope.label(ins.operands[0])};"


@_translates("brx")
def _branch_table(scope: Scope, ins: Instruction) -> str:
    cases = " ".join(f"case {i}: goto {scope.label(label)};" for i, label in enumerate(scope.targets(ins.operands[1])))
    return f"switch ({scope.value(ins.operands[0], 'u32')}) {{ {cases} }}"


@_translates("ret")
def _return(_: Scope, __: Instruction) -> str:
    return "return;"


@_translates("exit")
def _exit(_: Scope, __: Instruction) -> str:
    return "gpu_exit();"


@_translates("trap", "brkpt")
def _trap(_: Scope, ins: Instruction) -> str:
    return f"gpu_stop(GPU_TRAP, {ins.site}, nullptr);"


@_translates("call")
def _call(scope: Scope, ins: Instruction) -> str:
    operands = list(ins.operands)
    results = parts(operands.pop(0).strip("()")) if operands[0].startswith("(") else []
    name = operands.pop(0)
    arguments = [p for p in parts(operands[0].strip("()")) if p] if operands else []
    if name == "__assertfail":
        return f"gpu_stop(GPU_ASSERTION, {ins.site}, *(const char**){scope.value(arguments[0], 'param')});"
    return scope.call(name, results, arguments)


@_translates("bar", "barrier")
def _barrier(scope: Scope, ins: Instruction) -> str:
    if ins.has("warp"):
        return f"gpu_warp_sync({scope.value(ins.operands[0], 'u32')}, {ins.site});"
    whole = all(o == "0" for o in ins.operands[:1]) if ins.has("sync") else ins.operands[1] == "0"
    if not whole or ins.has("arrive", "cluster") or (ins.has("sync") and len(ins.operands) > 1):
        raise Unsupported
    if ins.has("sync"):
        return f"gpu_barrier({ins.site});"
    predicate = scope.value(ins.operands[-1], "pred")
    if ins.has("popc"):
        return scope.assign(ins.operands[0], "u32", f"gpu_barrier_count({ins.site}, {predicate})")
    if ins.has("or"):
        return scope.assign(ins.operands[0], "pred", f"gpu_barrier_count({ins.site}, {predicate}) != 0")
    return scope.assign(ins.operands[0], "pred", f"gpu_barrier_count({ins.site}, !{predicate}) == 0")
