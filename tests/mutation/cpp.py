"""Places to change in CUDA C++: regular expressions on the bodies of functions, with comments
blanked out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .operators import ARITHMETIC, AXES, BITS, COMPARISONS, EXTREMES, INDEX, LOGIC, Site, other_numbers

_NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.DOTALL | re.MULTILINE
)
_BOUNDS = re.compile(r"__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)")
_DECLARES = re.compile(r"\s*(?:,|(?!return\b|else\b|do\b)[\w:<>]+[\s&*]+\w)")


def blanked(text: str) -> str:
    """The text with blanks in place of all that is not code; positions stay the same."""
    return _NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def chunks(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, begin, end of its braces) of each function and struct of a blanked text."""
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


def sites_in_cpp(text: str) -> Iterator[Site]:
    code = blanked(text)
    for name, begin, end in chunks(code):
        for kind, first, last, after in _in_body(code, text, begin, end):
            yield name, kind, first, last, after


def _in_body(code: str, text: str, begin: int, end: int) -> Iterator[tuple[str, int, int, str]]:
    def matches(pattern: str) -> Iterator[re.Match]:
        return re.compile(pattern).finditer(code, begin, end)

    for m in matches(r"(?<= )(?:<<|>>|[-+*/%&|^])(?= )"):
        yield "arithmetic", *m.span(), (ARITHMETIC | BITS)[m[0]]
    for m in matches(r"(?<= )([-+*/])=(?= )"):
        yield "arithmetic", *m.span(), ARITHMETIC[m[1]] + "="
        yield "assignment", *m.span(), "="
    for m in matches(r"(?<= )=(?= )"):
        start = max(code.rfind(c, begin, m.start()) for c in ";{}")
        if not _DECLARES.match(re.sub(r"\bfor\s*\(", "", code[start + 1 : m.start()])):
            yield "assignment", *m.span(), "+="
    for m in matches(r"(?<= )(?:[<>=!]=|[<>])(?= )"):
        yield "comparison", *m.span(), COMPARISONS[m[0]]
    for m in matches(r"&&|\|\|"):
        yield "logic", *m.span(), LOGIC[m[0]]
    for m in matches(r"(?<![\w)\]])!(?=[\w(])"):
        yield "logic", *m.span(), ""
    for m in matches(r"(?<![\w.])\d+(?=u?(?![\w.]))"):
        for other in other_numbers(int(m[0])):
            yield "constant", *m.span(), other
    for m in matches(r"(?<![\w.])(\d+\.\d*(?:e-?\d+)?)f"):
        for other in other_numbers(float(m[1])):
            yield "constant", *m.span(), other + ("f" if "." in other or "e" in other else ".f")
    for m in matches(r"\b__sync(?:threads|warp)\s*\([^;]*\)(?=\s*;)"):
        yield "barrier", *m.span(), ""
    for m in matches(r"\b(?:return|continue|break)(?=\s*;)"):
        yield "guard", *m.span(), ""
    for m in matches(r"\bif\s*(?:constexpr\s*)?(?=\()"):
        last = _closing(code, m.end())
        yield "guard", m.end(), last, f"(!{text[m.end() : last]})"
    for m in matches(r"\bfmaf(?=\()"):
        last = _closing(code, m.end())
        a, b, c = _arguments(code, text, m.end(), last)
        yield "fma", m.start(), last, f"(({a}) * ({b}))"
        yield "fma", m.start(), last, f"fmaf({c}, {b}, {a})"
    for m in matches(rf"(?<=\b(?:{'|'.join(w for w in INDEX if len(w) == 8)})\.)[xyz]|(?<=\bthreadIdx\.)[xyz]"):
        yield "index", *m.span(), AXES[m[0]]
    for m in matches(r"\b(?:f?min|f?max|fminf|fmaxf)(?=\()"):
        yield "min/max", *m.span(), EXTREMES[m[0]]
    for m in matches(r"\? ([^?:;]+) : "):
        last = _end_of_expression(code, m.end())
        first, second = m[1], code[m.end() : last]
        if first.count("(") == first.count(")") and "?" not in second:
            yield "select", m.start(), last, f"? {second} : {first}"


def _closing(code: str, begin: int) -> int:
    """The position after the bracket that closes the one at `begin`."""
    depth = 0
    for i in range(begin, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if not depth:
            return i + 1
    raise ValueError("a bracket is never closed")


def _end_of_expression(code: str, begin: int) -> int:
    """The position of the semicolon, comma or closing bracket that ends the expression."""
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
