"""One gate for arguments: the annotations of a parameter say what it takes, and the gate checks it.

`@checked` puts the gate in front of a function; classes of layers, losses, callbacks and all else
that derives from `Checked` have it in front of their constructors. An annotation that says more
than a type is `Annotated` with `Bounds`, such as `Fraction` below, and perhaps with a cure in
words. What no annotation can say is checked by hand and refused in the same words, with `wrong`.

A number is finite, and never True or False. A sequence is a list, a tuple or an array of one axis.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from .errors import ArgumentError, DataError, in_one_line, one_line
from .retired import reject

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Bounds:
    """The range of a number, both ends included but with `above` or `below`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    infinite: bool = False

    def hold(self, value: Any) -> bool:
        """Whether the number lies in the range."""
        from_low = value > self.low if self.above else value >= self.low
        return bool(from_low and (value < self.high if self.below else value <= self.high))

    def __str__(self) -> str:
        low, high = _shown(self.low), _shown(self.high)
        if self.high == math.inf:
            return "" if self.low == -math.inf else f" above {low}" if self.above else f" of {low} or more"
        if self.above:
            return f" above {low} and {'below' if self.below else 'at most'} {high}"
        return f" of {low} or more and below {high}" if self.below else f" of {low} … {high}"


@dataclass(frozen=True)
class Length:
    """How many elements a sequence has at least."""

    least: int


Count = Annotated[int, Bounds(1, 2**31 - 1)]
Natural = Annotated[int, Bounds(0, 2**31 - 1)]
Seed = Annotated[int, Bounds(0, 2**64 - 1)]
Word = Annotated[int, Bounds(0, 2**32 - 1)]
Positive = Annotated[float, Bounds(0, above=True)]
NotNegative = Annotated[float, Bounds(0)]
Limit = Annotated[float, Bounds(0, infinite=True)]
Fraction = Annotated[float, Bounds(0, 1)]
BelowOne = Annotated[float, Bounds(0, 1, below=True)]
PathLike = str | os.PathLike


@dataclass(frozen=True)
class Rule:
    """What a parameter takes: a test, and what to say it is."""

    accepts: Callable[[Any], bool]
    expected: str


class Checked:
    """Base of classes whose constructors check their arguments, those of gpucnn's subclasses too.

    A user's subclass may annotate its constructor as it likes.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("gpucnn.") and "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]


def checked(function: F) -> F:
    """Raise `ArgumentError` at a call whose arguments do not fit the annotations, or are unknown.

    It names the function (for a constructor, the class), the argument, its value and what to give.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in _POSITIONAL]
    method = names[:1] == ["self"]
    known = None if any(p.kind is p.VAR_KEYWORD for p in parameters) else [p.name for p in parameters][method:]

    @functools.wraps(function)
    def gate(*args: Any, **kwargs: Any) -> Any:
        rules = _rules(function)
        owner = type(args[0]).__name__ if method and args and function.__name__ == "__init__" else function.__name__
        for name, value in zip(names, args):
            _require(owner, name, value, rules.get(name))
        for name, value in kwargs.items():
            if known is not None and name not in known:
                reject(owner, {name: value}, known)
            _require(owner, name, value, rules.get(name))
        return function(*args, **kwargs)

    return gate  # type: ignore[return-value]


def check(owner: str, name: str, value: Any, annotation: Any) -> None:
    """Raise `ArgumentError` unless the value fits the annotation."""
    _require(owner, name, value, _rule(annotation))


def check_keywords(owner: str, function: Callable[..., Any], keywords: dict[str, Any]) -> None:
    """Raise `ArgumentError` unless these are the function's keyword-only arguments, all of them."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    missing, unknown = [name for name in needed if name not in keywords], sorted(keywords.keys() - names)
    if missing or unknown:
        problem = f"lacks the parameter {missing[0]}" if missing else f"has no parameter {unknown[0]}"
        raise ArgumentError(f"{owner} {problem}: it takes {', '.join(names)}")
    for name, value in keywords.items():
        _require(owner, name, value, _rules(function).get(name))


def wrong(owner: str, name: str, value: Any, expected: str) -> ArgumentError:
    """The error for an argument that is not what is expected."""
    return ArgumentError(f"{owner}({name}={one_line(repr(value))}): give {expected}")


def padding_name(owner: str, value: Any, names: Sequence[str] = ("valid", "same")) -> str:
    """One of `names`, in lower case; letters of either case are accepted."""
    if isinstance(value, str) and value.lower() in names:
        return value.lower()
    hint = " (for a number of cells put a ZeroPadding layer in front)" if isinstance(value, (int, tuple, list)) else ""
    raise wrong(owner, "padding", value, " or ".join(map(repr, names)) + hint)


def extents(owner: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    """One positive integer per spatial axis, from a sequence or from one integer for all axes."""
    sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(sizes) != rank or not all(map(is_count, sizes)):
        each = _COUNT.expected if rank == 1 else f"{_COUNT.expected}, or {rank} of them in a tuple"
        raise wrong(owner, name, value, each)
    return tuple(map(int, sizes))


def numbers(name: str, value: Any) -> np.ndarray:
    """An array of numbers on the host, from lists or an array of any library: PyTorch, JAX, CuPy, and
    all that speak DLPack or `__cuda_array_interface__`.

    Memory of the host is shared, memory of a GPU is copied. Raises `DataError`, with `name`, for a
    tensor that requires a gradient, for types that NumPy lacks, and for values that do not form an
    array.
    """
    array = _to_host(name, value)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{name} has dtype {array.dtype}: give numbers (images of different sizes do not form an array)"
        )
    return array


def is_array(value: Any) -> bool:
    """Whether this is an array of NumPy or of another library that `numbers` reads."""
    return isinstance(value, np.ndarray) or any(
        hasattr(value, protocol) for protocol in ("__dlpack__", "__cuda_array_interface__")
    )


def is_count(value: Any) -> bool:
    """Whether this is an integer of at least 1 that fits into 32 bits."""
    return _COUNT.accepts(value)


def float32(owner: str, value: Any, reason: str) -> None:
    """Raise unless a `dtype` is None or float32."""
    if not (value is None or (isinstance(value, (str, type, np.dtype)) and value in ("float32", np.float32))):
        raise ArgumentError(f"{owner}(dtype={one_line(repr(value))}): {reason}; leave dtype out")


def channels_last(owner: str, value: Any) -> None:
    """Raise unless a `data_format` is None or `"channels_last"`."""
    if isinstance(value, str) and value == "channels_first":
        raise ArgumentError(
            f"{owner}(data_format='channels_first'): gpucnn keeps channels last; "
            "move the channel axis with np.moveaxis(x, 1, -1) and leave data_format out"
        )
    if not (value is None or (isinstance(value, str) and value == "channels_last")):
        raise wrong(owner, "data_format", value, "'channels_last', or leave it out")


def _to_host(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if getattr(value, "requires_grad", False) is True:
        raise DataError(f"{name} is a tensor that requires a gradient: give {name}.detach()")
    kind = type(value).__name__
    try:
        if _is_elsewhere(value):
            return _copied(value)
        if hasattr(value, "__dlpack__"):
            return _shared(value)
        return np.asarray(value)
    except (BufferError, RuntimeError, TypeError) as error:
        dtype = getattr(value, "dtype", None)
        stated = f"{kind}" if dtype is None else f"{kind} of {dtype}"
        raise DataError(
            f"{name} is a {stated} that NumPy cannot read: convert it to float32 on the host ({in_one_line(error)})"
        ) from error
    except ValueError as error:
        raise DataError(f"{name} is not an array of one shape: all images must have one size ({error})") from error


def _is_elsewhere(value: Any) -> bool:
    """Whether an array lies in the memory of a GPU."""
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) not in _ON_HOST
    return hasattr(value, "__cuda_array_interface__")


def _shared(value: Any) -> np.ndarray:
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError):  # types and layouts that DLPack cannot say, but the library can
        return np.asarray(value)


def _copied(value: Any) -> np.ndarray:
    """What the library itself copies: tensors of PyTorch have `cpu`, arrays of CuPy `get`, those of JAX `__array__`."""
    if callable(getattr(value, "cpu", None)):
        return _shared(value.cpu())
    return value.get() if callable(getattr(value, "get", None)) else np.asarray(value)


@functools.cache
def _rules(function: Callable[..., Any]) -> dict[str, Rule | None]:
    """The rules of a function's parameters by name; None for those that take anything."""
    hints = get_type_hints(function, include_extras=True)
    kinds = {p.name: p.kind for p in inspect.signature(function).parameters.values()}
    return {name: _rule(hint) for name, hint in hints.items() if kinds.get(name) in _NAMED}


def _require(owner: str, name: str, value: Any, rule: Rule | None) -> None:
    if rule is not None and not rule.accepts(value):
        raise wrong(owner, name, value, rule.expected)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)


def _rule(hint: Any) -> Rule | None:
    """The rule of an annotation; None if it takes anything."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(_rule(parts[0]), parts[0], parts[1:])
    if origin in (Union, types.UnionType):
        return _any_of([_rule(part) for part in sorted(parts, key=lambda part: part is type(None))])
    if origin is Literal:
        return Rule(functools.partial(_is_among, values=parts), " or ".join(map(repr, parts)))
    if origin in (tuple, list, Sequence):
        return _sequence(origin, parts)
    if origin is dict:
        return _mapping(*map(_rule, parts))
    if origin is type:
        return Rule(lambda value: isinstance(value, type) and issubclass(value, parts[0]), parts[0].__name__)
    if origin is Callable:
        return Rule(callable, "a function")
    if origin is Iterable:
        return Rule(lambda value: isinstance(value, Iterable), "a list")
    return _PLAIN.get(hint) or (_instance(hint) if isinstance(hint, type) and hint not in (Any, object) else None)


def _is_number(value: Any, kinds: tuple[type, ...], infinite: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    try:
        return not math.isnan(value) if infinite else math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return int in kinds and float not in kinds


def _bounded(rule: Rule | None, base: Any, marks: tuple[Any, ...]) -> Rule | None:
    """The rule of a type within bounds."""
    for mark in marks:
        if isinstance(mark, Bounds) and rule is not None:
            kinds = _INTEGERS if base is int else _REALS
            rule = Rule(
                lambda value, mark=mark, kinds=kinds: _is_number(value, kinds, mark.infinite) and mark.hold(value),  # type: ignore[misc]
                f"{rule.expected}{mark}",
            )
        elif isinstance(mark, Length) and rule is not None:
            rule = Rule(
                lambda value, mark=mark, inner=rule: inner.accepts(value) and len(value) >= mark.least,  # type: ignore[misc]
                f"{rule.expected}, at least {mark.least}",
            )
        elif isinstance(mark, str) and rule is not None:
            rule = Rule(rule.accepts, f"{rule.expected} ({mark})")
    return rule


def _any_of(rules: list[Rule | None]) -> Rule | None:
    if None in rules:
        return None
    kept = [rule for rule in rules if rule is not None]
    separate = ", or " if kept[-1] is _NONE else " or "
    return Rule(
        lambda value: any(rule.accepts(value) for rule in kept),
        separate.join([" or ".join(rule.expected for rule in kept[:-1]), kept[-1].expected]),
    )


def _sequence(origin: Any, parts: tuple[Any, ...]) -> Rule:
    """A list or a tuple; of a fixed length if it is annotated as a tuple of so many elements."""
    fixed = origin is tuple and parts[-1] is not Ellipsis
    elements = [_rule(part) for part in parts if part is not Ellipsis]

    def accepts(value: Any) -> bool:
        if not isinstance(value, (list, tuple)) and not (isinstance(value, np.ndarray) and value.ndim == 1):
            return False
        if fixed and len(value) != len(elements):
            return False
        each = elements if fixed else elements * len(value)
        return all(rule is None or rule.accepts(item) for rule, item in zip(each, value, strict=True))

    element = elements[0].expected if elements[0] else "anything"
    return Rule(accepts, f"a tuple of {len(elements)}, each {element}" if fixed else f"a list, each element {element}")


def _mapping(keys: Rule | None, values: Rule | None) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, dict) and all(
            (keys is None or keys.accepts(key)) and (values is None or values.accepts(item))
            for key, item in value.items()
        )

    each = " to ".join(rule.expected if rule else "anything" for rule in (keys, values))
    return Rule(accepts, f"a dict from {each}")


def _is_among(value: Any, values: tuple[Any, ...]) -> bool:
    return isinstance(value, (str, int, np.integer, type(None))) and value in values


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1))


def _instance(cls: type) -> Rule:
    return Rule(lambda value: isinstance(value, cls), f"a {cls.__name__}")


def _shown(bound: float) -> str:
    for power in (31, 32, 64):
        if bound == 2**power - 1:
            return f"2**{power} - 1"
    return "0" if 0 < bound < 2.0**-149 else f"{bound:g}"  # what float32 rounds to 0


_ON_HOST = (1, 3)
"""The device types of DLPack whose memory NumPy reads: the CPU, and host memory pinned by CUDA."""

_INTEGERS = (int, np.integer)
_REALS = (int, float, np.integer, np.floating)
_NONE = Rule(lambda value: value is None, "None")
_PLAIN: dict[Any, Rule] = {
    type(None): _NONE,
    bool: Rule(_is_flag, "True or False"),
    int: Rule(lambda value: _is_number(value, _INTEGERS), "an integer"),
    float: Rule(lambda value: _is_number(value, _REALS), "a number"),
    str: Rule(lambda value: isinstance(value, str), "text"),
    os.PathLike: Rule(lambda value: isinstance(value, os.PathLike), "a path"),
}
_COUNT = _bounded(_PLAIN[int], int, (Bounds(1, 2**31 - 1),)) or _PLAIN[int]
