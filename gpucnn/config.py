"""Objects that remember the arguments they were made with, so that a file can describe them in JSON.

A file never decides what is imported: a description is looked up among the classes that gpucnn defines and those that
the user's own code gave to `register`.
"""

from __future__ import annotations

import difflib
import inspect
import re
from typing import Any, TypeVar

import numpy as np

from .errors import ArgumentError
from .retired import EXPLAINED, RENAMED, reject

T = TypeVar("T")

_classes: dict[tuple[str, str], type] = {}


class Configurable:
    """Base of layers, losses, metrics, optimizers, schedules, initializers, regularizers and constraints.

    A direct subclass founds a kind (`Layer`, `Loss`, …); names are unique within a kind. A class made with
    `abstract=True` is only a base of others: no file can name it.
    """

    kind: str
    _arguments: dict[str, Any]

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Configurable in cls.__bases__:
            cls.kind = cls.__name__
        elif cls.__module__.startswith("gpucnn.") and not (abstract or cls.__name__.startswith("_")):
            _classes[cls.kind, cls.__name__] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Keep the arguments; unknown and retired ones are named before anything is made of them."""
        self = super().__new__(cls)
        self._arguments = _bind(cls, self, args, kwargs)
        return self

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {name: _to_json(value) for name, value in self._arguments.items()}

    @classmethod
    def from_config(cls: type[T], config: dict[str, Any]) -> T:
        """The object that `get_config` described."""
        return cls(**{name: _from_json(value) for name, value in config.items()})


def register(cls: type[T]) -> type[T]:
    """Class decorator: let saved models that use this class of yours be loaded again.

    >>> @gpucnn.register
    ... class Scale(gpucnn.layers.Layer): ...
    """
    if not (isinstance(cls, type) and issubclass(cls, Configurable)):
        raise ArgumentError(f"@register needs a subclass of Layer, Loss, Metric, … and got {cls!r}")
    if cls.__module__.startswith("gpucnn.") or ((cls.kind, cls.__name__) in _classes and _is_ours(cls)):
        raise ArgumentError(f"gpucnn has a {cls.kind} called {cls.__name__}: give yours another name")
    _classes[cls.kind, cls.__name__] = cls
    return cls


def serialize(thing: Configurable) -> dict[str, Any]:
    """`{"kind", "class_name", "config"}`, all JSON."""
    return {"kind": thing.kind, "class_name": type(thing).__name__, "config": thing.get_config()}


def deserialize(description: dict[str, Any], custom_objects: dict[str, type] | None = None) -> Any:
    """The object behind `serialize`'s description; classes only from gpucnn, `register` and `custom_objects`."""
    try:
        kind, name, config = description["kind"], description["class_name"], dict(description["config"])
    except (TypeError, KeyError, ValueError) as error:
        raise ArgumentError(
            f"{description!r} does not describe an object: kind, class_name and config are needed"
        ) from error
    cls = (custom_objects or {}).get(name) or _classes.get((kind, name))
    if not (isinstance(cls, type) and issubclass(cls, Configurable)):
        raise ArgumentError(
            f"unknown {kind} {name!r}: if it is your own class, decorate it with @gpucnn.register first"
        )
    return cls.from_config(config)


def get(kind: type[T], identifier: Any, aliases: dict[str, Any] | None = None) -> T | None:
    """Keras' rule for arguments: None, an object, a class, a name in snake or camel case, or a description."""
    founder: str = kind.kind  # type: ignore[attr-defined]
    if identifier is None or isinstance(identifier, kind):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, kind):
        return identifier()
    if isinstance(identifier, dict):
        return deserialize({"kind": founder, **identifier})
    if isinstance(identifier, str):
        known = {snake_case(name): cls for (k, name), cls in _classes.items() if k == founder}
        known.update(aliases or {})
        found = known.get(snake_case(identifier)) or known.get(identifier.lower())
        if found is not None:
            return found()
        close = difflib.get_close_matches(snake_case(identifier), known, 1, 0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ArgumentError(f"unknown {founder.lower()} {identifier!r}: {hint}known are {', '.join(sorted(known))}")
    raise ArgumentError(f"{identifier!r} is not a {founder.lower()}: give a name, an object or None")


def snake_case(name: str) -> str:
    """GlorotUniform → glorot_uniform, L1L2 → l1_l2, AdamW → adam_w, Conv2D → conv2d."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z0-9])", "_", name).lower()


def _bind(cls: type, self: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    parameters = list(signature.parameters.values())[1:]
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    unknown = {k: v for k, v in kwargs.items() if k not in names}
    if len(names) < len(parameters):
        unknown = {k: v for k, v in unknown.items() if k in RENAMED or k in EXPLAINED}
    if unknown:
        reject(cls.__name__, unknown, names)
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


def _is_ours(cls: type[Configurable]) -> bool:
    return _classes[cls.kind, cls.__name__].__module__.startswith("gpucnn.")


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
    if callable(value) and getattr(value, "__module__", "").startswith("gpucnn.") and name:
        return name
    raise ArgumentError(
        f"{value!r} cannot be described in a file: use a name, a number or a class known to @gpucnn.register"
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and {"kind", "class_name", "config"} <= value.keys():
        return deserialize(value)
    if isinstance(value, list):
        return tuple(_from_json(v) for v in value)
    return value
