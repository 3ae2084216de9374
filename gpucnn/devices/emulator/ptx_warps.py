"""PTX instructions in which the lanes of a warp work together: exchanges, votes, matrices."""

from __future__ import annotations

import re

from .ptx_instruction import Instruction, Scope, Translation, Unsupported, entering, parts

TABLE: dict[str, Translation] = {}
"""The translation of each instruction, by its name."""

_translates = entering(TABLE)


@_translates("shfl")
def _shuffle(scope: Scope, ins: Instruction) -> str:
    targets = parts(ins.operands[0])
    value, b, c, mask = (scope.value(o, "u32") for o in ins.operands[1:5])
    mode = ins.one_of("up", "down", "bfly", "idx").upper()
    code = f"Shuffled s = shfl_(SHFL_{mode}, {value}, {b}, {c}, {mask}, {ins.site}); "
    code += scope.assign(targets[0], "b32", "s.value") if targets[0] != "_" else ""
    return code + (scope.assign(targets[1], "pred", "s.inside") if len(targets) > 1 else "")


@_translates("vote")
def _vote(scope: Scope, ins: Instruction) -> str:
    predicate, mask = scope.value(ins.operands[1], "pred"), scope.value(ins.operands[2], "u32")
    code = f"GpuVote v = vote_<GPU_BALLOT>({mask}, {predicate}, {ins.site}); "
    if ins.has("ballot"):
        return code + scope.assign(ins.operands[0], "b32", "v.result")
    truth = {"any": "v.result != 0", "all": "v.result == v.group", "uni": "v.result == 0 || v.result == v.group"}
    return code + scope.assign(ins.operands[0], "pred", truth[ins.one_of(*truth)])


@_translates("match")
def _match(scope: Scope, ins: Instruction) -> str:
    targets = parts(ins.operands[0])
    value, mask = scope.value(ins.operands[1], ins.type), scope.value(ins.operands[2], "u32")
    code = f"GpuVote v = vote_<GPU_MATCH>({mask}, {value}, {ins.site}); "
    if ins.has("any"):
        return code + scope.assign(targets[0], "b32", "v.result")
    code += scope.assign(targets[0], "b32", "v.result == v.group ? v.group : 0")
    return code + (scope.assign(targets[1], "pred", "v.result == v.group") if len(targets) > 1 else "")


@_translates("redux")
def _reduce(scope: Scope, ins: Instruction) -> str:
    if ins.type == "f32":
        raise Unsupported
    name = ins.one_of("add", "min", "max", "and", "or", "xor").upper()
    signed = "S" if ins.type == "s32" and name in ("MIN", "MAX") else ""
    value, mask = (scope.value(o, "u32") for o in ins.operands[1:3])
    return scope.assign(ins.operands[0], "b32", f"vote_<GPU_{signed}{name}>({mask}, {value}, {ins.site}).result")


@_translates("elect")
def _elect(scope: Scope, ins: Instruction) -> str:
    targets = parts(ins.operands[0])
    code = f"GpuVote v = vote_<GPU_BALLOT>({scope.value(ins.operands[1], 'u32')}, true, {ins.site}); "
    code += "int first = __builtin_ctz(v.group); "
    code += scope.assign(targets[0], "b32", "first") if targets[0] != "_" else ""
    return code + scope.assign(targets[1], "pred", "gpu_lane == first")


@_translates("activemask")
def _active(scope: Scope, ins: Instruction) -> str:
    return scope.assign(ins.operands[0], "b32", "gpu_warp_present()")


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
def _mma(scope: Scope, ins: Instruction) -> str:
    shape, types = next((m for m in ins.modifiers if re.fullmatch(r"m\d+n\d+k\d+", m)), ""), ins.types
    if len(types) != 4 or types[0] != "f32" or types[3] != "f32" or (shape, types[1]) not in _SHAPES:
        raise Unsupported
    if types[1] != types[2] or not ins.has("row") or not ins.has("col"):
        raise Unsupported
    k = _SHAPES[shape, types[1]][0]
    d, a, b, c = (parts(o) for o in ins.operands)
    values = [", ".join(scope.value(r, "u32") for r in group) for group in (a, b)]
    sums = ", ".join(scope.value(r, "f32") for r in c)
    code = f"GpuMatrices m{{{{{values[0]}}}, {{{values[1]}}}, {{{sums}}}}}; mma_<{k}, {types[1]}>(&m, {ins.site}); "
    return code + "".join(scope.assign(r, "f32", f"m.c[{i}]") for i, r in enumerate(d))


@_translates("ldmatrix")
def _load_matrix(scope: Scope, ins: Instruction) -> str:
    if not ins.has("m8n8") or ins.type != "b16":
        raise Unsupported
    registers = parts(ins.operands[0])
    address = scope.address(ins.operands[1], "shared" if ins.has("shared") else "generic")
    transposed = str(ins.has("trans")).lower()
    code = f"GpuMatrixRows r = ldmatrix_<{len(registers)}, {transposed}>({address}, {ins.site}); "
    return code + "".join(scope.assign(r, "b32", f"r.registers[{i}]") for i, r in enumerate(registers))
