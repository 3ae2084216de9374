"""Places to change in numba kernels, from the syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from .operators import ARITHMETIC, AXES, BITS, COMPARISONS, EXTREMES, INDEX, LOGIC, Site, other_numbers

_DECORATORS = ("numba_function", "numba_device")
_BINARY = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
}
_COMPARED = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


def device_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions of a Python file that run on a GPU."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [f for f in functions if any(word in ast.unparse(d) for d in f.decorator_list for word in _DECORATORS)]


def sites_in_python(text: str) -> Iterator[Site]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = [line.encode() for line in text.splitlines(keepends=True)]

    def place(line: int, column: int) -> int:
        """The position in the text of a line and a column in bytes, as the syntax tree counts."""
        return starts[line - 1] + len(lines[line - 1][:column].decode())

    def span(node: Any) -> tuple[int, int]:
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def between(left: ast.AST, right: ast.AST, word: str) -> tuple[int, int]:
        """Where the operator stands between its operands, among brackets and comments."""
        begin, end = span(left)[1], span(right)[0]
        code = re.sub(r"#[^\n]*", lambda m: " " * len(m[0]), text[begin:end])
        at = begin + code.index(word)
        return at, at + len(word)

    for function in device_functions(ast.parse(text)):
        docstring = function.body[0].value if ast.get_docstring(function) else None  # type: ignore[attr-defined]
        # Names that have a value wherever they are assigned again.
        assigned = {t.id: n.lineno for n in reversed(function.body) for t in _names(n)} | {
            a.arg: 0 for a in function.args.args
        }
        for statement in function.body:
            for node in ast.walk(statement):
                if node is not docstring:
                    for kind, begin, end, after in _at_node(node, text, span, between, assigned):
                        yield function.name, kind, begin, end, after


def _names(node: ast.stmt) -> list[ast.Name]:
    return [t for t in node.targets if isinstance(t, ast.Name)] if isinstance(node, ast.Assign) else []


def _at_node(
    node: ast.AST, text: str, span: Callable, between: Callable, assigned: dict[str, int]
) -> Iterator[tuple[str, int, int, str]]:
    def source(n: ast.AST) -> str:
        return text[slice(*span(n))]

    match node:
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            yield "arithmetic", *between(left, right, _BINARY[type(op)]), (ARITHMETIC | BITS)[_BINARY[type(op)]]
        case ast.AugAssign(target, op, value) if type(op) in _BINARY:
            word = _BINARY[type(op)]
            at = between(target, value, f"{word}=")
            yield "arithmetic", *at, (ARITHMETIC | BITS)[word] + "="
            yield "assignment", *at, "="
        case ast.Assign([target], value) if isinstance(target, ast.Subscript) or (
            isinstance(target, ast.Name) and assigned.get(target.id, node.lineno) < node.lineno
        ):
            yield "assignment", *between(target, value, "="), "+="
        case ast.Compare(left, ops, comparators):
            for a, op, b in zip([left, *comparators], ops, comparators, strict=False):
                if word := _COMPARED.get(type(op)):
                    yield "comparison", *between(a, b, word), COMPARISONS[word]
        case ast.BoolOp(op, values):
            word = "and" if isinstance(op, ast.And) else "or"
            for a, b in pairwise(values):
                yield "logic", *between(a, b, word), LOGIC[word]
        case ast.UnaryOp(ast.Not(), operand):
            yield "logic", *span(node), source(operand)
        case ast.Constant(bool() as value):
            yield "constant", *span(node), str(not value)
        case ast.Constant(int() | float() as value):
            for other in other_numbers(value):
                whole = isinstance(value, int) or any(c in other for c in ".en")
                yield "constant", *span(node), other if whole else other + ".0"
        case ast.Expr(ast.Call(ast.Attribute(_, "syncthreads" | "syncwarp"))):
            yield "barrier", *span(node), "pass"
        case ast.Return(None) | ast.Continue() | ast.Break():
            yield "guard", *span(node), "pass"
        case ast.If(test):
            yield "guard", *span(test), f"not ({source(test)})"
        case ast.IfExp(test, body, orelse):
            yield "select", *span(node), f"{source(orelse)} if {source(test)} else {source(body)}"
        case ast.Attribute(ast.Attribute(_, word), axis) if word in INDEX:
            yield "index", *span(node), source(node)[: -len(axis)] + AXES[axis]
        case ast.Call(ast.Name(word) as name) if word in EXTREMES:
            yield "min/max", *span(name), EXTREMES[word]
        case ast.Call(ast.Attribute(_, "fma"), [a, b, c]):
            yield "fma", *span(node), f"(({source(a)}) * ({source(b)}))"
            yield "fma", *span(node), f"cuda.fma({source(c)}, {source(b)}, {source(a)})"
