"""Objects that remember their constructor's arguments, so that a file can describe them in JSON.

A file never decides what is imported: a description is looked up among the classes that gpucnn
defines and those that the user's code passes to `register`.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from .arguments import Checked
from .errors import ArgumentError, did_you_mean, one_line, printable
from .retired import EXPLAINED, RENAMED, reject

T = TypeVar("T")

_classes: dict[tuple[str, str], type] = {}


_NOTHING = object()

_changes = 0


def changes() -> int:
    """How often attributes of layers, weights, optimizers and the like have got other values, so that what was
    planned for them need not be compared with all of them each time. Read it before the attributes: those that
    come meanwhile count again."""
    return _changes


class Counted:
    """Base of objects whose attributes are counted when they get another value."""

    if not TYPE_CHECKING:  # for which any attribute could be assigned then

        def __setattr__(self, name: str, value: Any) -> None:
            global _changes
            if vars(self).get(name, _NOTHING) is not value:
                super().__setattr__(name, value)
                _changes += 1

        def __delattr__(self, name: str) -> None:
            global _changes
            super().__delattr__(name)
            _changes += 1


class Configurable(Counted, Checked):
    """Base of layers, losses, metrics, optimizers and all else that a file can describe.

    A direct subclass founds a kind (`Layer`, `Loss`, …); names are unique within a kind. A class
    defined with `abstract=True` is only a base of others: no file can name it.
    """

    kind: str
    _arguments: dict[str, Any]
    _hands_keywords_on: ClassVar[bool] = True
    """Whether `**keywords` of a constructor of gpucnn are arguments of the class above it."""
    sets_itself: ClassVar[tuple[str, ...]] = ()
    """Arguments of the class above it that a constructor of gpucnn does not pass on but sets."""

    def __init__(self) -> None:
        """Take no arguments, unless a subclass does."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Configurable in cls.__bases__:
            cls.kind = cls.__name__
        elif _is_ours(cls) and not (abstract or cls.__name__.startswith("_")):
            _classes[cls.kind, cls.__name__] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Keep the arguments. Unknown and retired ones raise here, before the constructor runs."""
        self = super().__new__(cls)
        self._arguments = _bind(cls, self, args, kwargs)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold the state; the constructor does not run again."""
        return _blank, (type(self),), self.__getstate__()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {name: _to_json(value) for name, value in self._arguments.items()}

    @classmethod
    def from_config(cls: type[T], config: dict[str, Any]) -> T:
        """The object that `get_config` described."""
        return cls(**{name: _from_json(value) for name, value in config.items()})


def register(cls: type[T]) -> type[T]:
    """Class decorator: saved models that use this class can be loaded again.

    >>> @gpucnn.register
    ... class Scale(gpucnn.layers.Layer): ...
    """
    if not (isinstance(cls, type) and issubclass(cls, Configurable)):
        raise ArgumentError(f"@register needs a subclass of Layer, Loss, Metric, … and got {cls!r}")
    registered = _classes.get((cls.kind, cls.__name__))
    if _is_ours(cls) or (registered is not None and _is_ours(registered)):
        raise ArgumentError(f"gpucnn has a {cls.kind} called {cls.__name__}: give yours another name")
    _classes[cls.kind, cls.__name__] = cls
    return cls


def serialize(thing: Configurable) -> dict[str, Any]:
    """`{"kind", "class_name", "config"}`, all JSON."""
    return {"kind": thing.kind, "class_name": type(thing).__name__, "config": thing.get_config()}


def deserialize(description: dict[str, Any], custom_objects: dict[str, type] | None = None) -> Any:
    """The object that `serialize` described.

    Its class is one of gpucnn's, a registered one, or one of `custom_objects`.
    """
    try:
        kind, name, config = description["kind"], description["class_name"], dict(description["config"])
    except (TypeError, KeyError, ValueError) as error:
        raise ArgumentError(
            f"{description!r} does not describe an object: kind, class_name and config are needed"
        ) from error
    cls = (custom_objects or {}).get(name) or _classes.get((kind, name))
    if not (isinstance(cls, type) and issubclass(cls, Configurable)):
        raise ArgumentError(f"unknown {kind} {name!r}: if it is your class, decorate it with @gpucnn.register first")
    return cls.from_config(config)


def built_in(kind: str, class_name: str) -> list[str] | None:
    """The arguments that gpucnn's own class of this kind and name takes; None if there is no such class."""
    cls = _classes.get((kind, class_name))
    return _argument_names(cls)[0] if cls is not None and _is_ours(cls) else None


def get(kind: type[T], identifier: Any, aliases: dict[str, Any] | None = None) -> T | None:
    """Keras' rule for arguments: None, an object, a class, a name in any case, or a description."""
    found = find(kind, identifier, aliases)
    if found is None or isinstance(found, kind):
        return found
    return found()  # type: ignore[operator]


def find(kind: type[T], identifier: Any, aliases: dict[str, Any] | None = None) -> T | Callable[[], T] | None:
    """What `get` returns, or a function that creates it. Raises `ArgumentError` if there is neither."""
    founder: str = kind.kind  # type: ignore[attr-defined]
    if identifier is None or isinstance(identifier, kind):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, kind):
        return identifier
    if isinstance(identifier, dict):
        return partial(deserialize, {"kind": founder, **identifier})
    if isinstance(identifier, str):
        classes = {snake_case(name): cls for (k, name), cls in _classes.items() if k == founder}
        classes.update(aliases or {})
        cls = classes.get(snake_case(identifier)) or classes.get(identifier.lower())
        if cls is not None:
            return cls
        hint = did_you_mean(snake_case(identifier), sorted(classes))
        known = f"known are {', '.join(sorted(classes))}"
        raise ArgumentError(f"unknown {founder.lower()} {identifier!r}: {hint}{hint and ' '}{known}")
    raise ArgumentError(f"{identifier!r} is not a {founder.lower()}: give a name, an object or None")


def snake_case(name: str) -> str:
    """GlorotUniform → glorot_uniform, L1L2 → l1_l2, AdamW → adam_w, Conv2D → conv2d."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z0-9])", "_", name).lower()


def _blank(cls: type[T]) -> T:
    """An object without its state."""
    return object.__new__(cls)


def check_name(name: Any) -> None:
    """Raise `ArgumentError` unless this is a name that can be printed on one line."""
    if not isinstance(name, str) or not name or len(name) > 300 or printable(name) != name:
        raise ArgumentError(
            f"the name {one_line(repr(name))} is empty, too long or has characters that cannot be printed"
        )


def check_names(value: Any) -> None:
    """The same for everything that is called `name` in a JSON value."""
    if isinstance(value, dict):
        if isinstance(value.get("name"), str):
            check_name(value["name"])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            check_names(item)


def check_fields(cls: type, values: dict[str, Any]) -> None:
    """Raise `ArgumentError` for the first value that is not a field of the dataclass `cls`, or not
    of its type: None, bool, int, float, str, and lists and dicts (with names as keys) of these."""
    hints = get_type_hints(cls)
    for name, value in values.items():
        if name not in hints:
            raise ArgumentError(f"{one_line(name)} is unknown")
        if not _has_type(value, hints[name]):
            hint = hints[name]
            kind = hint.__name__ if isinstance(hint, type) else hint
            raise ArgumentError(f"{name} is {one_line(repr(value))} and must be {kind}")


def _has_type(value: Any, hint: Any) -> bool:
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return any(_has_type(value, part) for part in parts)
    if kind is list:
        return type(value) is list and all(_has_type(item, parts[0]) for item in value)
    if kind is dict:
        return type(value) is dict and all(type(k) is str and _has_type(v, parts[1]) for k, v in value.items())
    return hint is Any or type(value) is hint or (hint is float and type(value) is int)


def _bind(cls: type[Configurable], self: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name; raises for those that the constructor does not have."""
    names, complete = _argument_names(cls)
    unknown = {name: value for name, value in kwargs.items() if name not in names}
    if not complete:
        unknown = {name: value for name, value in unknown.items() if name in RENAMED or name in EXPLAINED}
    if unknown:
        reject(cls.__name__, unknown, names)
    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(self, *args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"{cls.__name__}: {error}") from error
    arguments = dict(bound.arguments)
    arguments.pop("self", None)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
    return arguments


def _argument_names(cls: type[Configurable]) -> tuple[list[str], bool]:
    """The names of the constructor's arguments, and whether there are no others.

    gpucnn's constructors hand `**keywords` on to the class above; a user's constructor may do
    anything with them.
    """
    names: dict[str, None] = {}
    for owner in cls.__mro__:
        constructor = vars(owner).get("__init__")
        if constructor is not None:
            _, *parameters = inspect.signature(constructor).parameters.values()
            names |= dict.fromkeys(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                return [name for name in names if name not in cls.sets_itself], True
            if not (_is_ours(owner) and cls._hands_keywords_on):
                break
    return list(names), False


def _is_ours(thing: Any) -> bool:
    """Whether gpucnn defines this class or function."""
    return (getattr(thing, "__module__", None) or "").startswith("gpucnn.")


def _to_json(value: Any) -> Any:
    if isinstance(value, Configurable):
        return serialize(value)
    if isinstance(value, (list, tuple)):
        return [_to_json(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _to_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, type) and issubclass(value, Configurable):
        return snake_case(value.__name__)
    name = getattr(value, "__name__", None)
    if callable(value) and _is_ours(value) and name:
        return name
    raise ArgumentError(
        f"{value!r} cannot be described in a file: use a name, a number or a class registered with @gpucnn.register"
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and {"kind", "class_name", "config"} <= value.keys():
        return deserialize(value)
    if isinstance(value, list):
        return tuple(_from_json(v) for v in value)
    return value
