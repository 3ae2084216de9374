"""Does the check of GPU kernels bite? Kernels are broken on purpose, one small change each, and must be reported.

    python tests/mutate_kernels.py                                        # a sample of every kernel file for GPUs
    python tests/mutate_kernels.py --pattern pool2d/ --per-file 40        # more of one family

A mutant is a copy of `kernels/` with one change: an operator, a comparison, a constant, a barrier or a guard taken
away, operands or axes exchanged. It runs in the emulator in a process of its own, on the cases of its ops that reach
the change: in check mode up to 1 MFLOP, then in fast mode up to 50 MFLOP, as `tests/test_gpu_kernels.py` does, until
something is reported. What a mutant is caught by, the original must pass. Where nothing is reported, both are compiled
for a GPU: equal machine code has no fault that a check could find.
"""

from __future__ import annotations

import ast
import datetime
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

KERNELS = Path(__file__).resolve().parent.parent / "kernels"
KINDS = (
    "arithmetic",
    "assignment",
    "barrier",
    "comparison",
    "constant",
    "fma",
    "guard",
    "index",
    "logic",
    "min/max",
    "select",
)
COMMON = ("include/", "shared/")
"""Folders of what several families include."""

SEED_OF_THREADS = 3
"""The order of threads in fast mode, as in test_gpu_kernels.py."""

_ARITHMETIC = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "+"}
_BITS = {"<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "&"}
_COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_LOGIC = {"&&": "||", "||": "&&", "and": "or", "or": "and"}
_EXTREMES = {"min": "max", "max": "min", "fminf": "fmaxf", "fmaxf": "fminf", "fmin": "fmax", "fmax": "fmin"}
_AXES = {"x": "y", "y": "x", "z": "x"}
_INDEX = ("threadIdx", "blockIdx", "blockDim", "gridDim")

_NONE_LEFT = "for a thread at the end itself the loop over the last values has no turn"
_NO_SUCH_AXIS = "saves divisions: the axes that lack have extent 1"
_SAME_IN_ALL_LANES = "all lanes of a warp hold the warp's count, and these threads lie in one warp each"
_LARGER = "shared memory that nobody uses"
_ONE_TURN = "there are at most as many sums as threads, so the loop has one turn"

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("bias/rows_cuda.cu", "bias_rows", "if (first > size) return;"): _NONE_LEFT,
    ("rescaling/elementwise_cuda.cu", "rescale_elementwise", "if (first > size) return;"): _NONE_LEFT,
    ("reshaping/elementwise_cuda.cu", "pad_elementwise", "if (axis < MOST_AXES - axes) ;"): _NO_SUCH_AXIS,
    ("reshaping/elementwise_cuda.cu", "transpose_elementwise", "if (axis < MOST_AXES - axes) ;"): _NO_SUCH_AXIS,
    (
        "include/column_sums.cuh",
        "column_sums",
        "for (; row < end; row += lanes) total[1] += __ldg(matrix + row * columns + column);",
    ): "another of the four sums that are added up at last",
    ("include/stable.cuh", "sigmoid", "return (x > 0.f ? 1.f : d) / (1.f + d);"): "at 0 both are 1",
    (
        "include/stable.cuh",
        "clamp",
        "__device__ inline float clamp(float x, float low, float high) "
        "{ return x < low ? low : x >= high ? high : x; }",
    ): "at the bound both are the bound",
    (
        "include/stable.cuh",
        "clamp",
        "__device__ inline float clamp(float x, float low, float high) "
        "{ return x <= low ? low : x > high ? high : x; }",
    ): "at the bound both are the bound",
    (
        "include/stream.cuh",
        "stream",
        "for (unsigned i = begin; i <= end; i += AT_ONCE * step) {",
    ): "one turn more, in which nothing lies before the end",
    (
        "shared/rows_numba.py",
        "row_max",
        "pass # until all have read what the reduction before this one left here",
    ): "row_max comes first in each kernel that calls it",
    ("update/two_stage_cuda.cu", "norm_of_blocks", ";"): "saves a write into the workspace that nobody reads",
    ("update/two_stage_numba.py", "total_of_all", "total = partial[block]"): _ONE_TURN,
    ("update/two_stage_numba.py", "penalty_of_all", "total = partial[block]"): _ONE_TURN,
    (
        "batch/rows_cuda.cu",
        "sum_of_block",
        "if (threadIdx.x % 33 == 0) counts[threadIdx.x / 32] = count;",
    ): _SAME_IN_ALL_LANES,
    (
        "batch/rows_cuda.cu",
        "sum_of_block",
        "if (threadIdx.x % 32 == 1) counts[threadIdx.x / 32] = count;",
    ): _SAME_IN_ALL_LANES,
    (
        "batch/rows_cuda.cu",
        "correct_rows",
        "for (unsigned first = blockIdx.x * rows; first <= N; first += gridDim.x * rows) {",
    ): "one turn more, in which no row is present",
    ("batch/gather_numba.py", "gather_bytes", "shared_sample = cuda.shared.array(2, numba.int64)"): _LARGER,
    ("batch/gather_numba.py", "gather_floats", "shared_sample = cuda.shared.array(2, numba.int64)"): _LARGER,
    (
        "matmul/tiled_cuda.cu",
        "matmul_tiled",
        "__shared__ float a_tile[TILE][TILE + 2], b_tile[TILE][TILE + 1];",
    ): _LARGER,
    (
        "matmul/tiled_cuda.cu",
        "matmul_tiled",
        "__shared__ float a_tile[TILE][TILE + 1], b_tile[TILE][TILE + 2];",
    ): _LARGER,
    (
        "matmul/tiled_cuda.cu",
        "matmul_tiled",
        "for (unsigned first_k = 0; first_k <= K; first_k += TILE) {",
    ): "one tile more, of zeros",
    (
        "conv2d/implicit_gemm_cuda.cu",
        "conv2d_grad_input_implicit_gemm",
        "if (task.m >= cells) ; // `tiles` are those of the remainder with the most cells; the whole block returns",
    ): "saves work: nothing is written beyond the last cell",
    (
        "constraint/two_pass_cuda.cu",
        "my_share",
        "unsigned chunk = length / gridDim.y + (length % gridDim.y >= 0);",
    ): "chunks of one element more cover a slice as well",
}
"""(file, function, changed line) → why there is nothing that a check could find."""

_OF_INFINITY = "differs where the norm of a slice is infinite, and a case for that would make NumPy warn"
_BEHIND_THE_LAST = "what lies behind a kernel's last shared array belongs to another kernel: the emulator lets it pass"

SURVIVORS: dict[tuple[str, str, str], str] = {
    (
        "constraint/two_pass_cuda.cu",
        "scale_slices",
        "if (rest >= 0.f) desired = rate * desired + rest * norm;",
    ): _OF_INFINITY,
    ("constraint/two_pass_numba.py", "scale_slices", "if rest >= 0:"): _OF_INFINITY,
    (
        "shared/im2col_cuda.cu",
        "y_of_columns",
        "__align__(16) __shared__ float a_slabs[1 * SLAB_A], b_slabs[2 * SLAB_B]; "
        "// one half is read while the other fills",
    ): _BEHIND_THE_LAST,
    (
        "include/stream.cuh",
        "stream",
        "for (int k = 0; k <= AT_ONCE; ++k)",
    ): "g++ lets the address of the element behind the last of a local array of structs pass",
}
"""The same for faults that are faults and are known to pass: why they do."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file: `text[begin:end]` becomes `after`. What became of it is filled in by `judged`."""

    file: str
    function: str
    line: int
    kind: str
    begin: int
    end: int
    before: str
    after: str
    code: str = ""
    changed: str = ""
    state: str = ""
    how: str = ""
    report: str = ""
    seconds: float = 0.0

    @property
    def language(self) -> str:
        """Which language the file is written in."""
        return "numba" if self.file.endswith(".py") else "cuda"


def mutants(file: str, text: str) -> list[Mutant]:
    """All mutants of a source file, in the order of their places."""
    find = _in_python if file.endswith(".py") else _in_cpp
    made = []
    for function, kind, begin, end, after in sorted(set(find(text)), key=lambda site: site[2:]):
        first = text.rfind("\n", 0, begin) + 1
        last = text.find("\n", end)
        last = len(text) if last < 0 else last
        code = " ".join(text[first:last].split())
        changed = " ".join((text[first:begin] + after + text[end:last]).split())
        line = text.count("\n", 0, begin) + 1
        made.append(Mutant(file, function, line, kind, begin, end, text[begin:end], after, code, changed))
    return made


Site = tuple[str, str, int, int, str]
"""(function, kind, begin, end, what stands there instead)"""


def _other_numbers(value: float) -> list[str]:
    """The numbers that a constant becomes: 0 → 1, 1 → 2, n → n - 1 and n + 1."""
    others = (value + 1,) if value in (0, 1) else (value - 1, value + 1)
    return [f"{v:.10g}" for v in others]


# ---- CUDA C++: regular expressions on the bodies of functions, comments and preprocessor lines blanked out ----

_NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.DOTALL | re.MULTILINE
)
_BOUNDS = re.compile(r"__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)")
_DECLARES = re.compile(r"\s*(?:,|(?!return\b|else\b|do\b)[\w:<>]+[\s&*]+\w)")


def blanked(text: str) -> str:
    """The text with blanks for what is no code; positions stay."""
    return _NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def chunks(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, begin, end of its braces) of each function and struct of a C++ text that was blanked."""
    depth = begin = start = 0
    for i, c in enumerate(text):
        if c == "{":
            begin = i if depth == 0 else begin
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                head = _BOUNDS.sub("", text[start:begin])
                struct, function = re.search(r"\b(?:struct|class)\s+(\w+)\s*$", head), re.search(r"(\w+)\s*\(", head)
                if struct or (function and "=" not in head.partition("(")[0]):
                    yield (struct or function)[1], begin, i  # type: ignore[index]
                start = i + 1
        elif c == ";" and depth == 0:
            start = i + 1


def _in_cpp(text: str) -> Iterator[Site]:
    code = blanked(text)
    for name, begin, end in chunks(code):
        for kind, first, last, after in _in_body(code, text, begin, end):
            yield name, kind, first, last, after


def _in_body(code: str, text: str, begin: int, end: int) -> Iterator[tuple[str, int, int, str]]:
    def found(pattern: str) -> Iterator[re.Match]:
        return re.compile(pattern).finditer(code, begin, end)

    for m in found(r"(?<= )(?:<<|>>|[-+*/%&|^])(?= )"):
        yield "arithmetic", *m.span(), (_ARITHMETIC | _BITS)[m[0]]
    for m in found(r"(?<= )([-+*/])=(?= )"):
        yield "arithmetic", *m.span(), _ARITHMETIC[m[1]] + "="
        yield "assignment", *m.span(), "="
    for m in found(r"(?<= )=(?= )"):
        start = max(code.rfind(c, begin, m.start()) for c in ";{}")
        if not _DECLARES.match(re.sub(r"\bfor\s*\(", "", code[start + 1 : m.start()])):
            yield "assignment", *m.span(), "+="
    for m in found(r"(?<= )(?:[<>=!]=|[<>])(?= )"):
        yield "comparison", *m.span(), _COMPARISONS[m[0]]
    for m in found(r"&&|\|\|"):
        yield "logic", *m.span(), _LOGIC[m[0]]
    for m in found(r"(?<![\w)\]])!(?=[\w(])"):
        yield "logic", *m.span(), ""
    for m in found(r"(?<![\w.])\d+(?=u?(?![\w.]))"):
        for other in _other_numbers(int(m[0])):
            yield "constant", *m.span(), other
    for m in found(r"(?<![\w.])(\d+\.\d*(?:e-?\d+)?)f"):
        for other in _other_numbers(float(m[1])):
            yield "constant", *m.span(), other + ("f" if "." in other or "e" in other else ".f")
    for m in found(r"\b__sync(?:threads|warp)\s*\([^;]*\)(?=\s*;)"):
        yield "barrier", *m.span(), ""
    for m in found(r"\b(?:return|continue|break)(?=\s*;)"):
        yield "guard", *m.span(), ""
    for m in found(r"\bif\s*(?:constexpr\s*)?(?=\()"):
        last = _closing(code, m.end())
        yield "guard", m.end(), last, f"(!{text[m.end() : last]})"
    for m in found(r"\bfmaf(?=\()"):
        last = _closing(code, m.end())
        a, b, c = _arguments(code, text, m.end(), last)
        yield "fma", m.start(), last, f"(({a}) * ({b}))"
        yield "fma", m.start(), last, f"fmaf({c}, {b}, {a})"
    for m in found(rf"(?<=\b(?:{'|'.join(w for w in _INDEX if len(w) == 8)})\.)[xyz]|(?<=\bthreadIdx\.)[xyz]"):
        yield "index", *m.span(), _AXES[m[0]]
    for m in found(r"\b(?:f?min|f?max|fminf|fmaxf)(?=\()"):
        yield "min/max", *m.span(), _EXTREMES[m[0]]
    for m in found(r"\? ([^?:;]+) : "):
        last = _end_of_expression(code, m.end())
        first, second = m[1], code[m.end() : last]
        if first.count("(") == first.count(")") and "?" not in second:
            yield "select", m.start(), last, f"? {second} : {first}"


def _closing(code: str, begin: int) -> int:
    """The place behind the bracket that closes the one at `begin`."""
    depth = 0
    for i in range(begin, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if not depth:
            return i + 1
    raise ValueError("a bracket is never closed")


def _end_of_expression(code: str, begin: int) -> int:
    """The place of the semicolon, comma or closing bracket that ends what begins here."""
    depth = 0
    for i in range(begin, len(code)):
        if not depth and code[i] in ";,)]}":
            return i
        depth += (code[i] in "([{") - (code[i] in ")]}")
    return len(code)


def _arguments(code: str, text: str, begin: int, end: int) -> list[str]:
    """The arguments between the brackets at `begin` and `end`."""
    depth, starts = 0, [begin + 1]
    for i in range(begin, end):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if code[i] == "," and depth == 1:
            starts.append(i + 1)
    return [text[a : b - 1].strip() for a, b in zip(starts, [*starts[1:], end], strict=True)]


# ---- Python: places come from the syntax tree ----

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


def _in_python(text: str) -> Iterator[Site]:
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
        """Where the operator stands between its operands; brackets and comments may stand there too."""
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
            yield "arithmetic", *between(left, right, _BINARY[type(op)]), (_ARITHMETIC | _BITS)[_BINARY[type(op)]]
        case ast.AugAssign(target, op, value) if type(op) in _BINARY:
            word = _BINARY[type(op)]
            at = between(target, value, f"{word}=")
            yield "arithmetic", *at, (_ARITHMETIC | _BITS)[word] + "="
            yield "assignment", *at, "="
        case ast.Assign([target], value) if isinstance(target, ast.Subscript) or (
            isinstance(target, ast.Name) and assigned.get(target.id, node.lineno) < node.lineno
        ):
            yield "assignment", *between(target, value, "="), "+="
        case ast.Compare(left, ops, comparators):
            for a, op, b in zip([left, *comparators], ops, comparators, strict=False):
                if word := _COMPARED.get(type(op)):
                    yield "comparison", *between(a, b, word), _COMPARISONS[word]
        case ast.BoolOp(op, values):
            word = "and" if isinstance(op, ast.And) else "or"
            for a, b in pairwise(values):
                yield "logic", *between(a, b, word), _LOGIC[word]
        case ast.UnaryOp(ast.Not(), operand):
            yield "logic", *span(node), source(operand)
        case ast.Constant(bool() as value):
            yield "constant", *span(node), str(not value)
        case ast.Constant(int() | float() as value):
            for other in _other_numbers(value):
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
        case ast.Attribute(ast.Attribute(_, word), axis) if word in _INDEX:
            yield "index", *span(node), source(node)[: -len(axis)] + _AXES[axis]
        case ast.Call(ast.Name(word) as name) if word in _EXTREMES:
            yield "min/max", *span(name), _EXTREMES[word]
        case ast.Call(ast.Attribute(_, "fma"), [a, b, c]):
            yield "fma", *span(node), f"(({source(a)}) * ({source(b)}))"
            yield "fma", *span(node), f"cuda.fma({source(c)}, {source(b)}, {source(a)})"


# ---- Which kernels a change can reach ----


@dataclass(frozen=True)
class Sources:
    """The texts of all files of `kernels/` at one moment, so that nobody's edits come between."""

    texts: dict[str, str]

    @classmethod
    def read(cls, folder: Path = KERNELS) -> Sources:
        """The files below a folder that kernels for GPUs are made of."""
        files = [*folder.glob("*/*.py"), *folder.glob("*/*.cu"), *folder.glob("*/*.cuh")]
        return cls({p.relative_to(folder).as_posix(): p.read_text() for p in sorted(files)})

    def mutable(self) -> list[str]:
        """The files with code for GPUs."""
        names = (n for n in self.texts if n.endswith((".cuh", "_cuda.cu", "_numba.py")))
        return [n for n in names if any(True for _ in mutants(n, self.texts[n]))]

    def included(self, file: str) -> set[str]:
        """The files that a file includes, and those that they include, and itself."""
        done, waiting = set(), [file]
        while waiting:
            name = waiting.pop()
            if name in done or name not in self.texts:
                continue
            done.add(name)
            text = self.texts[name]
            if name.endswith(".py"):
                waiting.append(name.replace("_cuda.py", "_cuda.cu"))
                waiting += [f"shared/{m}.py" for m in re.findall(r"^from \.+(?:shared\.)?(\w+) import", text, re.M)]
                waiting += [f"shared/{m}" for m in re.findall(r'"(\w+_cuda\.cu)"', text)]
            else:
                waiting += [f"include/{m}" for m in re.findall(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', text, re.M)]
        return done

    def users(self, file: str) -> list[str]:
        """The kernel files (.py) that a change of the file may break, those with the least text first."""
        if not file.startswith(COMMON):
            return [file.replace(".cu", ".py")]
        own = [n for n in self.texts if n.endswith(("_cuda.py", "_numba.py")) and not n.startswith(COMMON)]
        users = [n for n in own if file in self.included(n)]
        return sorted(users, key=lambda n: sum(len(self.texts[i]) for i in self.included(n)))

    def entries(self, user: str, function: str) -> set[str]:
        """The functions of a kernel file, and of what it includes, that call `function` in the end; itself too."""
        words: dict[str, set[str]] = {}
        for file in self.included(user):
            text = self.texts[file]
            if file.endswith(".py"):
                for f in device_functions(ast.parse(text)):
                    words.setdefault(f.name, set()).update(re.findall(r"\w+", ast.unparse(f)))
            else:
                code, behind = blanked(text), 0
                for name, _, end in chunks(code):
                    words.setdefault(name, set()).update(re.findall(r"\w+", code[behind:end]))
                    behind = end
        reached, before = {function}, 0
        while len(reached) > before:
            before = len(reached)
            reached |= {name for name, used in words.items() if used & reached}
        return reached


# ---- The process that runs mutants ----


@dataclass(frozen=True)
class Trial:
    """A kernel on a case in a mode of the emulator, by names."""

    user: str
    op: str
    case: str
    mode: str

    def __str__(self) -> str:
        return f"{self.user.removesuffix('.py')} {self.op} {self.case} {self.mode}"


def serve(connection: Any, cache: str, folder: str, sources: Sources) -> None:
    """Answer the parent's questions: ("judge", number, mutant) or ("original", trial)."""
    os.environ["GPUCNN_CACHE"] = cache
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    bench = _Bench(Path(folder), sources)
    while True:
        question = connection.recv()
        if question[0] == "judge":
            bench.judge(connection.send, *question[1:])
        else:
            connection.send(("done", *bench.original(question[1])))


class _Bench:
    """Loads copies of kernels and runs their trials."""

    def __init__(self, folder: Path, sources: Sources) -> None:
        from gpucnn import trials

        trials.every_kernel("", ("cuda", "numba"))  # else the originals would take the mutants' places later
        self.folder, self.sources = folder, sources
        self.originals: dict[str, dict[str, Any]] = {}

    def judge(self, tell: Callable, number: int, mutant: Mutant) -> None:
        """Tell each trial before it starts, and at last what is reported."""
        from gpucnn.errors import KernelError

        try:
            users = self.sources.users(mutant.file)
            loaded = {user: self.load(f"mutant_{number}", user, mutant) for user in users}
            reach = {user: self.sources.entries(user, mutant.function) for user in users}
            chosen = [t for user in users for t in self.trials(user, loaded[user], reach[user])]
            if not chosen:  # a function that is handed on as a value is called under another name
                reach = {user: set() for user in users}
                chosen = [t for user in users for t in self.trials(user, loaded[user], set())]
            for trial in sorted(chosen, key=lambda t: {"check": 0, "fast": 1}[t.mode]):
                tell(("trial", trial))
                fault = self.run(loaded[trial.user][trial.op], trial)
                if fault and any(words in fault for words in _NOT_COMPILED):
                    return tell(("done", "invalid", "does not compile", fault[-600:]))
                if fault:
                    return tell(("done", "caught", _kind_of(fault), fault))
            tell(("trial", None))
            same = all(self.same_code(user, loaded[user], reach[user]) for user in users)
            return tell(("done", "equivalent" if same else "survived", "same machine code" if same else "", ""))
        except Exception as error:  # a mutant may break anything
            known = isinstance(error, KernelError) or type(error).__module__.startswith(("numba", "gpucnn"))
            return tell(
                ("done", "invalid", "does not compile" if known else "fails", f"{type(error).__name__}: {error}"[-600:])
            )

    def original(self, trial: Trial) -> tuple[str, str, str]:
        """What is said about the unchanged kernel."""
        if trial.user not in self.originals:
            self.originals[trial.user] = self.load("original", trial.user, None)
        fault = self.run(self.originals[trial.user][trial.op], trial)
        return ("caught", _kind_of(fault), fault) if fault else ("passed", "", "")

    def load(self, name: str, user: str, mutant: Mutant | None) -> dict[str, Any]:
        """Import a kernel file from a copy of the sources with the change in it; its kernels by op."""
        from gpucnn import registry

        root = self.folder / name
        needed = {user, user.replace(".py", ".cu"), *(n for n in self.sources.texts if n.startswith(COMMON))}
        for file in needed & self.sources.texts.keys():
            text = self.sources.texts[file]
            if mutant is not None and file == mutant.file:
                text = text[: mutant.begin] + mutant.after + text[mutant.end :]
            places = {root / file}
            if file.endswith(".cuh"):  # a header next to the .cu takes precedence over the one in include/
                places |= {(root / source).parent / Path(file).name for source in (user, "shared/source")}
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(root)]
            sys.modules[name] = package
        importlib.invalidate_caches()
        module = importlib.import_module(f"{name}.{user.removesuffix('.py').replace('/', '.')}")
        own = [k for op in registry.declared().values() for k in registry.kernels(op).values()]
        return {k.op.name: k for k in own if k.file == Path(str(module.__file__))}

    def trials(self, user: str, kernels: dict[str, Any], reach: set[str]) -> list[Trial]:
        """The trials that launch one of these functions (all if there are none): the smallest case of each op first;
        in fast mode the large ones first, as the others have passed in check mode."""
        from gpucnn import recording, trials
        from gpucnn.check import cases_for

        check, large, small = [], [], []
        for kernel in kernels.values():
            cases = sorted(cases_for(kernel), key=lambda c: trials.work(kernel.op, c))
            cases = [c for c in cases if trials.work(kernel.op, c) <= trials.AFFORDABLE["fast"]]
            if reach:
                cases = [c for c in cases if any(i.function.name in reach for i in recording.launches(kernel, c))]
            cheap = [trials.work(kernel.op, c) <= trials.AFFORDABLE["check"] for c in cases]
            name = kernel.op.name
            check.append([Trial(user, name, c.name, "check") for c, ok in zip(cases, cheap, strict=True) if ok])
            large.append([Trial(user, name, c.name, "fast") for c, ok in zip(cases, cheap, strict=True) if not ok])
            small.append([Trial(user, name, c.name, "fast") for c, ok in zip(cases, cheap, strict=True) if ok])
        return [t for group in (check, large, small) for row in zip_longest(*group) for t in row if t is not None]

    def run(self, kernel: Any, trial: Trial) -> str | None:
        """One trial."""
        from gpucnn import trials
        from gpucnn.check import disagreement

        case = next(c for c in kernel.op.cases if c.name == trial.case and not c.bench)
        with trials.running("emulator", trial.mode, **({"seed": SEED_OF_THREADS} if trial.mode == "fast" else {})):
            return disagreement(kernel, case)

    def same_code(self, user: str, kernels: dict[str, Any], reach: set[str]) -> bool:
        """Whether a compiler for GPUs makes the same of the mutant and of the original, in all variants in use."""
        from gpucnn import recording
        from gpucnn.check import cases_for

        if user not in self.originals:
            self.originals[user] = self.load("original", user, None)
        codes: list[dict] = [{}, {}]
        for made, own in zip(codes, (kernels, self.originals[user]), strict=True):
            for kernel in own.values():
                for case in cases_for(kernel):
                    for launch in recording.launches(kernel, case):
                        if not reach or launch.function.name in reach:
                            key = _variant(launch.function, list(launch.arguments))
                            made[key] = made.get(key) or _machine_code(launch.function, list(launch.arguments))
        return codes[0] == codes[1]


def _variant(function: Any, arguments: list) -> str:
    return (
        repr(sorted(function.defines.items()))
        if hasattr(function, "defines")
        else f"{function.name}{function.signature(arguments)}"
    )


def _machine_code(function: Any, arguments: list) -> bytes:
    """A cubin of CUDA C++; of a numba kernel its PTX without line numbers, and names without that of the module."""
    from gpucnn.nvrtc import compiled

    if hasattr(function, "defines"):
        return compiled(function.source(), "kernel.cu", function.defines, arch="sm_90").cubin
    text, _ = function.ptx(function.signature(arguments), (8, 0))
    lines = text.partition(".section")[0].splitlines()
    text = "\n".join(line for line in lines if not line.strip().startswith((".loc", ".file", "//")))
    names: dict[str, str] = {}
    return re.sub(r"\b_(?:Z|cudapy)\w+", lambda m: names.setdefault(m[0], f"name{len(names)}"), text).encode()


_NOT_COMPILED = ("refuses the kernel", "cannot be compiled")

_WORDS = (
    ("data race", "race"),
    ("outside of every array", "bounds"),
    ("out of bounds", "bounds"),
    ("where there is no memory", "bounds"),
    ("writes outside of", "bounds"),
    ("writes into its operand", "bounds"),
    ("uninitialised", "uninitialised"),
    ("is nan, expected", "not written"),
    ("misaligned", "misaligned"),
    ("__syncthreads", "barrier"),
    ("waits in", "barrier"),
    ("warp operation", "barrier"),
    ("two launches differ", "not deterministic"),
    ("divides an integer by zero", "division by zero"),
)


def _kind_of(fault: str) -> str:
    return next((kind for words, kind in _WORDS if words in fault), "wrong value")


# ---- The parent ----


class Worker:
    """A process with a bench; it is replaced when it hangs, dies or has done much."""

    MOST = 60

    def __init__(self, folder: Path, sources: Sources, limit: float) -> None:
        self.folder, self.sources, self.limit = folder, sources, limit
        self.process: Any = None
        self.passed: dict[Trial, bool] = {}

    def judged(self, number: int, mutant: Mutant) -> Mutant:
        """The mutant with what became of it."""
        start = time.perf_counter()
        state, how, report, trial = self.ask("judge", number, mutant)
        if state == "caught" and trial is not None:
            if trial not in self.passed:
                self.passed[trial] = self.ask("original", trial)[0] == "passed"
            if not self.passed[trial]:
                state, how = "invalid", "the original fails too"
        where = f"{trial}: " if state == "caught" and how in ("timeout", "crash") else ""
        key = mutant.file, mutant.function, mutant.changed
        if state == "survived" and key in EQUIVALENT:
            state, how, report = "equivalent", "by hand", EQUIVALENT[key]
        elif state == "survived":
            report = SURVIVORS.get(key, report)
        shutil.rmtree(self.folder / f"mutant_{number}", ignore_errors=True)
        return replace(
            mutant, state=state, how=how, report=(where + report)[:400], seconds=round(time.perf_counter() - start, 2)
        )

    def ask(self, *question: Any) -> tuple[str, str, str, Trial | None]:
        """(state, how, report, the trial it was in); a trial that takes too long is ended with its process."""
        if self.process is None or self.asked >= self.MOST:
            self.close()
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            cache = str(self.folder / "cache")
            arguments = theirs, cache, str(self.folder), self.sources
            self.process = context.Process(target=serve, args=arguments, daemon=True)
            self.process.start()
            theirs.close()
            self.asked = 0
        self.asked += 1
        self.connection.send(question)
        trial = question[1] if question[0] == "original" else None
        limit = 120.0
        while True:
            try:
                if not self.connection.poll(limit):
                    self.close()
                    return "caught", "timeout", f"no answer within {limit:g} s", trial
                answer = self.connection.recv()
            except EOFError:
                self.close()
                return "caught", "crash", "the process died", trial
            if answer[0] == "done":
                return *answer[1:], trial
            trial = answer[1] or trial
            limit = self.limit if answer[1] else 300.0

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def sample(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` mutants of a file, the kinds in turn, so that rare kinds are seen."""
    if not found:
        return []
    order = random.Random(seed ^ zlib.crc32(found[0].file.encode()))
    kinds = [[m for m in found if m.kind == kind] for kind in KINDS]
    for group in kinds:
        order.shuffle(group)
    order.shuffle(kinds)
    turns = [m for row in zip_longest(*kinds) for m in row if m is not None]
    return turns[:count]


def run(
    chosen: list[Mutant], sources: Sources, *, jobs: int = 1, limit: float = 30.0, done: Callable = lambda m: None
) -> list[Mutant]:
    """Judge mutants, `jobs` at a time; `done` is told of each."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        workers = [Worker(Path(folder), sources, limit) for _ in range(jobs)]

        def work(number: int) -> list[tuple[int, Mutant]]:
            results = []
            for i in range(number, len(chosen), jobs):
                judged = workers[number].judged(i, chosen[i])
                done(judged)
                results.append((i, judged))
            workers[number].close()
            return results

        with ThreadPoolExecutor(jobs) as pool:
            results = [r for part in pool.map(work, range(jobs)) for r in part]
    return [mutant for _, mutant in sorted(results, key=lambda r: r[0])]


def counts(results: Iterable[Mutant], key: Callable[[Mutant], str]) -> dict[str, Counter]:
    """How many mutants are in each state, by a key."""
    made: dict[str, Counter] = {}
    for m in results:
        made.setdefault(key(m), Counter())[m.state] += 1
    return dict(sorted(made.items()))


def share(states: Counter) -> float:
    """The share of valid mutants that are caught; equivalent ones and those that do not compile are not valid."""
    valid = states["caught"] + states["survived"]
    return states["caught"] / valid if valid else float("nan")


def tables(results: list[Mutant]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, rows) of what is shown and written."""
    states = ("caught", "survived", "equivalent", "invalid")
    for title, key in (
        ("language", lambda m: m.language),
        ("kind of change", lambda m: m.kind),
    ):
        rows = counts(results, key)
        rows["all"] = Counter(m.state for m in results)
        yield (
            title,
            [title, *states, "caught of valid"],
            [
                [n, *(str(c[s]) for s in states), f"{share(c):.1%}" if share(c) == share(c) else "–"]
                for n, c in rows.items()
            ],
        )
    how = Counter((m.how, m.language) for m in results if m.state == "caught")
    words = sorted({w for w, _ in how}, key=lambda w: -how[w, "cuda"] - how[w, "numba"])
    yield "caught by", ["caught by", "cuda", "numba"], [[w, str(how[w, "cuda"]), str(how[w, "numba"])] for w in words]


def markdown(results: list[Mutant], heading: str) -> str:
    """The record for people."""

    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    out = [heading, ""]
    for _, columns, rows in tables(results):
        out += [row(columns), row(["---"] * len(columns)), *map(row, rows), ""]
    for state, title in (("survived", "Survivors"), ("equivalent", "Equivalent mutants")):
        found = [m for m in results if m.state == state]
        out += [f"## {title}: {len(found)}", ""]
        if found:
            out += [row(["place", "kind", "code", "changed to", "why"]), row(["---"] * 5)]
            out += [
                row([f"{m.file}:{m.line}", m.kind, f"`{m.code}`", f"`{m.changed}`", m.report or m.how]) for m in found
            ]
            out.append("")
    return "\n".join(out).rstrip() + "\n"


def write(record: Path, results: list[Mutant], **run_: Any) -> None:
    """The record of a run: all results as JSON, and the tables and what was not caught as Markdown beside it."""
    states = Counter(m.state for m in results)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    options = f"--per-file {run_['per_file']} --seed {run_['seed']}"
    heading = (
        f"# Mutants of the kernels for GPUs\n\n`python tests/mutate_kernels.py {options}`, {date}, in the emulator, "
        f"{run_['minutes']:.0f} minutes: {len(results)} mutants of {len({m.file for m in results})} files. Of "
        f"{states['caught'] + states['survived']} valid ones {states['caught']} are caught, {share(states):.1%}."
    )
    by = {"language": counts(results, lambda m: m.language), "kind": counts(results, lambda m: m.kind)}
    record.parent.mkdir(parents=True, exist_ok=True)
    content = {"date": date, **run_, "counts": by, "mutants": [asdict(m) for m in results]}
    record.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    record.with_suffix(".md").write_text(markdown(results, heading))


@click.command()
@click.option("--per-file", default=4, show_default=True, help="Mutants of each file.")
@click.option("--seed", default=1, show_default=True, help="Chooses the sample.")
@click.option("--pattern", default="", help="Only files whose path contains this, such as pool2d/ or include/sum.")
@click.option("--kind", type=click.Choice(KINDS), help="Only changes of this kind.")
@click.option("--jobs", default=1, show_default=True, help="Processes at a time.")
@click.option(
    "--limit", default=30.0, show_default=True, help="Seconds for one trial; a mutant that takes longer is caught."
)
@click.option("--json", "record", type=click.Path(path_type=Path), help="Write all results here, and a .md beside it.")
def main(
    per_file: int, seed: int, pattern: str, kind: str | None, jobs: int, limit: float, record: Path | None
) -> None:
    """Break kernels on purpose and count how many of the changes are reported."""
    sources = Sources.read()
    chosen: list[Mutant] = []
    for file in sources.mutable():
        if pattern in file:
            found = [m for m in mutants(file, sources.texts[file]) if kind in (None, m.kind)]
            chosen += sample(found, per_file, seed)
    if not chosen:
        raise click.ClickException(f"no kernel file for GPUs matches {pattern!r}")
    console, start = Console(), time.perf_counter()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("mutants", total=len(chosen))

        def done(m: Mutant) -> None:
            progress.advance(task)
            if m.state in ("survived", "invalid"):
                line = f"{m.state} {m.how} {m.file}:{m.line} [{m.kind}] {m.code}  →  {m.changed}"
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        results = run(chosen, sources, jobs=jobs, limit=limit, done=done)
    for _, names, rows in tables(results):
        table = Table(*names)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if record:
        minutes = round((time.perf_counter() - start) / 60, 1)
        write(record, results, per_file=per_file, seed=seed, pattern=pattern, jobs=jobs, minutes=minutes)


if __name__ == "__main__":
    main()
