"""PTX instructions that compute: numbers, bits, comparisons and conversions."""

from __future__ import annotations

from .ptx_instruction import (
    FLOATS,
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


_BUILTINS = {
    ("fma", "f32"): "__builtin_fmaf",
    ("fma", "f64"): "__builtin_fma",
    ("neg", "f32"): "-",
    ("abs", "f32"): "__builtin_fabsf",
    ("rcp", "f32"): "1.0f / ",
}
"""What g++ has for an instruction and a type."""

# ---------------------------------------------------------------- values of one type


def _operands(scope: Scope, ins: Instruction, kind: str, first: int = 1, count: int | None = None) -> list[str]:
    """The source operands as values, flushed to zero if the instruction says so and the processor
    does not do it."""
    chosen = ins.operands[first:] if count is None else ins.operands[first : first + count]
    values = [scope.value(o, kind) for o in chosen]
    software = ins.has("ftz") and kind == "f32" and not scope.flushes_itself
    return [f"flush({v})" for v in values] if software else values


def _result(scope: Scope, ins: Instruction, kind: str, expression: str) -> str:
    if ins.has("sat") and kind in FLOATS:
        expression = f"saturate<{cpp_type(kind)}>({expression})"
    if ins.has("ftz") and kind == "f32" and not scope.flushes_itself:
        expression = f"flush({expression})"
    return scope.assign(ins.operands[0], kind, expression)


_DIRECTIONS = {"rz": "toward_zero", "rm": "toward_minus", "rp": "toward_plus"}


def _directed(ins: Instruction) -> str | None:
    """The function that rounds as the instruction says, if that is not to the nearest float."""
    return next((f for m, f in _DIRECTIONS.items() if ins.has(m) and ins.type == "f32"), None)


_SIGNS = {"add": "+", "sub": "-", "mul": "*"}


@_translates("add", "sub", "mul")
def _arithmetic(scope: Scope, ins: Instruction) -> str:
    kind = ins.type
    if ins.has("cc"):
        return _with_carry(scope, ins)
    if ins.name == "mul" and kind not in FLOATS:
        return _integer_product(scope, ins)
    a, b = _operands(scope, ins, kind)
    if direction := _directed(ins):
        return _result(scope, ins, kind, f"{direction}((f64){a} {_SIGNS[ins.name]} (f64){b})")
    if ins.has("sat") and kind == "s32":
        return scope.assign(ins.operands[0], kind, f"clamped<s32>((s64){a} {_SIGNS[ins.name]} (s64){b})")
    if kind.endswith("x2"):
        return _result(scope, ins, kind, f"{ins.name}_<{element(kind)}>({a}, {b})")
    return _result(scope, ins, kind, f"{a} {_SIGNS[ins.name]} {b}")


@_translates("addc", "subc")
def _with_carry(scope: Scope, ins: Instruction) -> str:
    kind = "u" + ins.type[1:]
    a, b = _operands(scope, ins, kind)
    carry = "+ carry" if ins.name == "addc" else "- carry" if ins.name == "subc" else ""
    sign = "+" if ins.name.startswith("add") else "-"
    return (
        f"unsigned __int128 w = (unsigned __int128){a} {sign} {b} {carry}; carry = w >> {WIDTHS[kind]} & 1; "
        + scope.assign(ins.operands[0], kind, f"({kind})w")
    )


def _integer_product(scope: Scope, ins: Instruction) -> str:
    kind, wide = ins.type, f"{ins.type[0]}{2 * WIDTHS[ins.type]}"
    a, b = _operands(scope, ins, kind, count=2)
    if ins.has("wide"):
        product, result = f"({wide}){a} * ({wide}){b}", wide
    else:
        half = "mul_hi" if ins.has("hi") else "mul_lo"
        product, result = f"{half}<{cpp_type(kind)}>({a}, {b})", kind
    if ins.name == "mad":
        product = f"({cpp_type(result)})({product} + {scope.value(ins.operands[3], result)})"
        if ins.has("sat"):
            product = f"clamped<s32>(((s64){a} * (s64){b} >> 32) + {scope.value(ins.operands[3], kind)})"
    return scope.assign(ins.operands[0], result, product)


@_translates("mad", "fma")
def _multiply_add(scope: Scope, ins: Instruction) -> str:
    if ins.type not in FLOATS:
        return _integer_product(scope, ins)
    a, b, c = _operands(scope, ins, ins.type)
    if direction := _directed(ins):
        return _result(scope, ins, ins.type, f"{direction}((f64){a} * (f64){b} + (f64){c})")
    product = f"{_BUILTINS.get(('fma', ins.type), 'fma_')}({a}, {b}, {c})"
    if ins.has("relu"):
        zero = "{}" if ins.type.endswith("x2") else "0"
        product = f"max_nan<{element(ins.type)}>({product}, {cpp_type(ins.type)}({zero}))"
    return _result(scope, ins, ins.type, product)


@_translates("mul24", "mad24")
def _product24(scope: Scope, ins: Instruction) -> str:
    kind = ins.type
    values = _operands(scope, ins, kind)
    wide = "s64" if kind == "s32" else "u64"
    product = f"({wide})low24({values[0]}) * ({wide})low24({values[1]})"
    expression = f"({kind})({product} >> 16)" if ins.has("hi") else f"({kind})({product})"
    return scope.assign(ins.operands[0], kind, expression + (f" + {values[2]}" if ins.name == "mad24" else ""))


@_translates("div", "rem")
def _quotient(scope: Scope, ins: Instruction) -> str:
    a, b = _operands(scope, ins, ins.type)
    if direction := _directed(ins):
        return _result(scope, ins, ins.type, f"{direction}((f64){a} / (f64){b})")
    return _result(scope, ins, ins.type, f"{ins.name}_<{cpp_type(ins.type)}>({a}, {b})")


@_translates("min", "max")
def _extremum(scope: Scope, ins: Instruction) -> str:
    function = ins.name + ("_nan" if ins.has("NaN") else "_")
    values = _operands(scope, ins, ins.type)
    nested = values[0]
    for v in values[1:]:
        nested = f"{function}<{element(ins.type)}>({nested}, {v})"
    if ins.has("xorsign"):
        raise Unsupported
    return _result(scope, ins, ins.type, nested)


@_translates("neg", "abs", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
def _unary(scope: Scope, ins: Instruction) -> str:
    function = _BUILTINS.get((ins.name, ins.type), f"{ins.name}_<{element(ins.type)}>")
    return _result(scope, ins, ins.type, f"{function}({_operands(scope, ins, ins.type)[0]})")


@_translates("sqrt", "rcp")
def _root(scope: Scope, ins: Instruction) -> str:
    a = _operands(scope, ins, ins.type)[0]
    if direction := _directed(ins):
        exact = f"sqrt((f64){a})" if ins.name == "sqrt" else f"(1 / (f64){a})"
        return _result(scope, ins, ins.type, f"{direction}({exact})")
    function = _BUILTINS.get((ins.name, ins.type), f"{ins.name}_<{cpp_type(ins.type)}>")
    return _result(scope, ins, ins.type, f"{function}({a})")


@_translates("copysign")
def _copysign(scope: Scope, ins: Instruction) -> str:
    a, b = _operands(scope, ins, ins.type)
    return scope.assign(ins.operands[0], ins.type, f"copysign_<{cpp_type(ins.type)}>({a}, {b})")


_TESTS = {
    "finite": "__builtin_isfinite({})",
    "infinite": "__builtin_isinf({})",
    "number": "!__builtin_isnan({})",
    "notanumber": "__builtin_isnan({})",
    "normal": "__builtin_isnormal({})",
    "subnormal": "(__builtin_fpclassify(0, 1, 2, 3, 4, {}) == 3)",
}


@_translates("testp")
def _test(scope: Scope, ins: Instruction) -> str:
    test = _TESTS[ins.one_of(*_TESTS)]
    return scope.assign(ins.operands[0], "pred", test.format(scope.value(ins.operands[1], ins.type)))


# ---------------------------------------------------------------- bits


@_translates("and", "or", "xor")
def _logic(scope: Scope, ins: Instruction) -> str:
    sign = {"and": "&", "or": "|", "xor": "^"}[ins.name]
    a, b = _operands(scope, ins, ins.type)
    return scope.assign(ins.operands[0], ins.type, f"({cpp_type(ins.type)})({a} {sign} {b})")


@_translates("not")
def _not(scope: Scope, ins: Instruction) -> str:
    sign = "!" if ins.type == "pred" else "~"
    return scope.assign(ins.operands[0], ins.type, f"({cpp_type(ins.type)}){sign}{_operands(scope, ins, ins.type)[0]}")


@_translates("cnot", "brev")
def _same_type(scope: Scope, ins: Instruction) -> str:
    return scope.assign(ins.operands[0], ins.type, f"{ins.name}_({_operands(scope, ins, ins.type)[0]})")


@_translates("popc", "clz")
def _count(scope: Scope, ins: Instruction) -> str:
    return scope.assign(ins.operands[0], "u32", f"{ins.name}_({_operands(scope, ins, ins.type)[0]})")


@_translates("bfind")
def _find(scope: Scope, ins: Instruction) -> str:
    bit = f"bfind_<{cpp_type(ins.type)}>({scope.value(ins.operands[1], ins.type)})"
    if ins.has("shiftamt"):
        return f"u32 f = {bit}; " + scope.assign(ins.operands[0], "u32", f"f == ~0u ? f : {WIDTHS[ins.type] - 1} - f")
    return scope.assign(ins.operands[0], "u32", bit)


@_translates("shl", "shr")
def _shift(scope: Scope, ins: Instruction) -> str:
    a, n = scope.value(ins.operands[1], ins.type), scope.value(ins.operands[2], "u32")
    return scope.assign(ins.operands[0], ins.type, f"{ins.name}_<{cpp_type(ins.type)}>({a}, {n})")


@_translates("shf")
def _funnel(scope: Scope, ins: Instruction) -> str:
    low, high, n = _operands(scope, ins, "u32")
    amount = f"({n} & 31)" if ins.has("wrap") else f"({n} > 32 ? 32 : {n})"
    return scope.assign(ins.operands[0], "u32", f"shf_{ins.one_of('l', 'r')}({low}, {high}, {amount})")


@_translates("sad")
def _sad(scope: Scope, ins: Instruction) -> str:
    a, b, c = _operands(scope, ins, ins.type)
    return scope.assign(ins.operands[0], ins.type, f"sad_<{cpp_type(ins.type)}>({a}, {b}, {c})")


@_translates("bfe")
def _extract(scope: Scope, ins: Instruction) -> str:
    position, length = (scope.value(o, "u32") for o in ins.operands[2:])
    a = scope.value(ins.operands[1], ins.type)
    return scope.assign(ins.operands[0], ins.type, f"bfe_<{cpp_type(ins.type)}>({a}, {position}, {length})")


@_translates("bfi")
def _insert(scope: Scope, ins: Instruction) -> str:
    a, b = (scope.value(o, ins.type) for o in ins.operands[1:3])
    position, length = (scope.value(o, "u32") for o in ins.operands[3:])
    return scope.assign(ins.operands[0], ins.type, f"bfi_<{cpp_type(ins.type)}>({a}, {b}, {position}, {length})")


@_translates("lop3")
def _lop3(scope: Scope, ins: Instruction) -> str:
    if ins.has("and", "or"):
        raise Unsupported
    a, b, c = (scope.value(o, "u32") for o in ins.operands[1:4])
    return scope.assign(ins.operands[0], "u32", f"lop3_<u32>({a}, {b}, {c}, {ins.operands[4]})")


@_translates("prmt")
def _permute(scope: Scope, ins: Instruction) -> str:
    a, b, selector = _operands(scope, ins, "u32")
    modes = [m for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16") if ins.has(m)]
    function = f"prmt_mode(PRMT_{modes[0].upper()}, " if modes else "prmt_("
    return scope.assign(ins.operands[0], "u32", f"{function}{a}, {b}, {selector})")


@_translates("fns")
def _nth_set(scope: Scope, ins: Instruction) -> str:
    mask, base = (scope.value(o, "u32") for o in ins.operands[1:3])
    return scope.assign(ins.operands[0], "u32", f"fns_({mask}, {base}, {scope.value(ins.operands[3], 's32')})")


@_translates("dp4a", "dp2a")
def _dot(scope: Scope, ins: Instruction) -> str:
    left, right = ins.types[0], ins.types[1]
    size = "16" if ins.name == "dp2a" else "8"
    a, b, c = _operands(scope, ins, "u32")
    half = f", {int(ins.has('hi'))}" if ins.name == "dp2a" else ""
    return scope.assign(ins.operands[0], "u32", f"{ins.name}_<{left[0]}{size}, {right[0]}8>({a}, {b}, {c}{half})")


# ---------------------------------------------------------------- choice and comparison


_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}


def _comparison(scope: Scope, ins: Instruction, kind: str, first: int) -> str:
    """`a op b`. With a NaN, the ordered comparisons are false and those that end in u are true."""
    a, b = _operands(scope, ins, kind, first, 2)
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
            return f"({ordered} && {a} != {b})" if name == "ne" and kind in FLOATS else f"({a} {sign} {b})"
        if ins.has(name + "u"):
            return f"(!{ordered} || {a} {sign} {b})"
    raise Unsupported


@_translates("setp")
def _set_predicate(scope: Scope, ins: Instruction) -> str:
    if ins.type.endswith("x2"):
        raise Unsupported
    truth = _comparison(scope, ins, ins.type, 1)
    targets = parts(ins.operands[0])
    combined, opposite = truth, f"!{truth}"
    for name, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
        if ins.has(name):
            other = scope.value(ins.operands[3], "pred")
            combined, opposite = f"({truth}) {sign} {other}", f"(!{truth}) {sign} {other}"
    code = f"bool p = {combined}, q = {opposite}; " if len(targets) > 1 else f"bool p = {combined}; "
    code += scope.assign(targets[0], "pred", "p")
    return code + (scope.assign(targets[1], "pred", "q") if len(targets) > 1 else "")


@_translates("set")
def _set(scope: Scope, ins: Instruction) -> str:
    result, kind = ins.types[0], ins.types[1]
    yes = "1.0f" if result == "f32" else "~0u"
    return scope.assign(ins.operands[0], result, f"{_comparison(scope, ins, kind, 1)} ? {yes} : 0")


@_translates("selp")
def _select(scope: Scope, ins: Instruction) -> str:
    kind = bits(ins.type)
    a, b = (scope.value(o, kind) for o in ins.operands[1:3])
    return scope.assign(ins.operands[0], kind, f"{scope.value(ins.operands[3], 'pred')} ? {a} : {b}")


@_translates("slct")
def _select_by_sign(scope: Scope, ins: Instruction) -> str:
    a, b = (scope.value(o, ins.types[0]) for o in ins.operands[1:3])
    return scope.assign(ins.operands[0], ins.types[0], f"{scope.value(ins.operands[3], ins.types[1])} >= 0 ? {a} : {b}")


# ---------------------------------------------------------------- conversions


_INTEGRAL = {
    **{m: "rint" for m in ("rni", "rn")},
    **{m: "trunc" for m in ("rzi", "rz")},
    **{m: "floor" for m in ("rmi", "rm")},
    **{m: "ceil" for m in ("rpi", "rp")},
}


@_translates("cvt")
def _convert(scope: Scope, ins: Instruction) -> str:
    target, source = ins.types[-2:]
    if ins.operands[2:]:
        return _convert_pair(scope, ins, target)
    value = _operands(scope, ins, source)[0]
    if target == "tf32":
        return scope.assign(ins.operands[0], "b32", f"tf32_nearest({value})")
    to, real = cpp_type(target), source in FLOATS
    if real and target not in FLOATS:
        value = f"integer_of<{to}>({_INTEGRAL[ins.one_of(*_INTEGRAL)]}((f64){value}))"
    elif real and ins.has("rni", "rzi", "rmi", "rpi"):
        value = f"({to}){_INTEGRAL[ins.one_of('rni', 'rzi', 'rmi', 'rpi')]}((f64){value})"
    elif target == "f32" and ins.has(*_DIRECTIONS):
        value = f"{_DIRECTIONS[ins.one_of(*_DIRECTIONS)]}((f64){value})"
    elif target in ("f16", "bf16") and ins.has("rz", "rm", "rp"):
        raise Unsupported
    elif ins.has("sat") and not real and target not in FLOATS:
        return scope.assign(ins.operands[0], target, f"clamped<{to}>({value})")
    else:
        value = f"convert<{to}>({value})"
    if ins.has("relu"):
        value = f"max_nan<{to}>({value}, ({to})0.0f)"
    return _result(scope, ins, target, value)


def _convert_pair(scope: Scope, ins: Instruction, target: str) -> str:
    """`cvt.rn.f16x2.f32 d, high, low`."""
    if target not in ("f16x2", "bf16x2") or not ins.has("rn"):
        raise Unsupported
    element = target.removesuffix("x2")
    high, low = (f"convert<{element}>({v})" for v in _operands(scope, ins, "f32"))
    if ins.has("relu"):
        high, low = (f"max_nan<{element}>({v}, ({element})0.0f)" for v in (high, low))
    return scope.assign(ins.operands[0], target, f"{target}{{{low}, {high}}}")
