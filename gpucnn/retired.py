"""Names of old Keras, and of Keras 3 where gpucnn lacks them: errors say what to write instead."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any, NoReturn

from .errors import ArgumentError, did_you_mean

RENAMED = {
    "lr": "learning_rate",
    "nb_epoch": "epochs",
    "nb_filter": "filters",
    "nb_row": "kernel_size",
    "nb_col": "kernel_size",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "dim_ordering": "data_format (gpucnn is channels_last throughout)",
    "output_dim": "units",
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
    "p": "rate",
    "mode": "one of the documented arguments",
    "samples_per_epoch": "steps_per_epoch",
    "nb_val_samples": "validation_steps",
    "show_accuracy": "metrics=['accuracy'] in compile",
    "class_mode": "loss",
    "period": "save_freq",
    "rho_decay": "rho",
    "max_m": "max_value",
    "m": "max_value",
    "batch_input_shape": "input_shape (without the batch axis)",
    "input_dim": "input_shape=(n,)",
}
"""Argument names of Keras 1 and 2, and their present names."""

EXPLAINED = {
    "decay": "decay= meant two things: for a rate that falls with the steps use learning_rate="
    "schedules.InverseTimeDecay(rate, 1, decay); for smaller weights use weight_decay=",
    "weights": "load them after the model is built, with layer.set_weights([...])",
    **dict.fromkeys(
        ("workers", "use_multiprocessing", "max_queue_size"), "gpucnn reads batches ahead by itself: leave it out"
    ),
    "loss_scale_factor": "gpucnn trains in float32 and needs no loss scale: leave it out",
}
"""Argument names that need more than one word."""


GONE_METHODS = {
    "fit_generator": "fit(generator) takes generators",
    "evaluate_generator": "evaluate(generator) takes generators",
    "predict_generator": "predict(generator) takes generators",
    "predict_classes": "predict(x).argmax(-1) gives the class numbers",
    "predict_proba": "predict(x) gives the probabilities",
    "to_json": "get_config() gives the architecture",
    "to_yaml": "get_config() gives the architecture",
}
"""Methods of a model in old Keras, and what to use instead."""


def arguments_of(function: Callable[..., Any]) -> list[str]:
    """The names of a function's arguments, for `reject`."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]


def reject(
    owner: str, unknown: dict[str, Any], arguments: Iterable[str] = (), renamed: Mapping[str, str] | None = None
) -> NoReturn:
    """Raise for arguments that `owner` does not have, with the name to use instead.

    `arguments` are the names that it has; `renamed` adds old names that only `owner` had.
    """
    name, value = next(iter(unknown.items()))
    arguments = list(arguments)
    if name in EXPLAINED:
        hint = EXPLAINED[name]
    elif name in (renames := {**RENAMED, **(renamed or {})}):
        hint = f"it is now called {renames[name]}"
    elif arguments:
        hint = did_you_mean(name, arguments) or f"its arguments are {', '.join(arguments)}"
    else:
        hint = "leave it out"
    raise ArgumentError(f"{owner}() has no argument {name}={value!r}: {hint}")


_REASONS: dict[str, dict[str, str]] = {}
"""What to do instead of names that gpucnn lacks, by module."""


class _AbsentImports(MetaPathFinder):
    """Says what to do instead when `from gpucnn.layers import Lambda` or `import gpucnn.applications` fails.

    Python looks for a submodule where a package lacks a name, and comes here if there is none; its own
    `ImportError` would give no reason.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """None, or the `ImportError` for a name that gpucnn lacks."""
        module, _, last = name.rpartition(".")
        reason = _REASONS.get(module, {}).get(last)
        if reason is not None:
            raise ImportError(str(absent_error(module, last, reason)), name=name)


sys.meta_path.append(_AbsentImports())


class AbsentError(ArgumentError, AttributeError):
    """A name that Keras has, or once had, and gpucnn lacks."""


def absent_error(module: str, name: str, reason: str) -> AbsentError:
    """The error for a name that gpucnn lacks, with what to do instead."""
    return AbsentError(f"{module.removeprefix('gpucnn.')}.{name} is not in gpucnn: {reason}")


def absent(module: str, reasons: dict[str, str]) -> Callable[[str], NoReturn]:
    """A `__getattr__` for `module`: names that only Keras has raise an error with the alternative.

    It is an `AttributeError`, so `hasattr` is False and `getattr` returns its default; a failed
    `from package import name` is an `ImportError` that says the same.
    """
    _REASONS[module] = reasons

    def __getattr__(name: str) -> NoReturn:  # noqa: N807
        if name in reasons:
            raise absent_error(module, name, reasons[name])
        raise AttributeError(f"module {no_attribute(module, name, public_names(module))}")

    return __getattr__


def public_names(module: str) -> list[str]:
    """The names that a module offers."""
    names = vars(sys.modules[module])
    return [name for name in names.get("__all__", names) if not name.startswith("_")]


def no_attribute(owner: str, name: str, known: Iterable[str]) -> str:
    """The message of an `AttributeError`, with the nearest of the known names."""
    hint = "" if name.startswith("_") else did_you_mean(name, known)
    return f"{owner!r} has no attribute {name!r}{hint and f': {hint}'}"


class Moved(ModuleType):
    """A submodule of old Keras: `from gpucnn.layers.core import Dense` names the present import.

    It raises `ImportError`, so that code which tries both imports finds the other one; for names
    that the package lacks, it raises `AttributeError`, because pickle looks names up in all loaded
    modules.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        sys.modules[name] = self

    def __getattr__(self, name: str) -> NoReturn:
        package = self.__name__.rpartition(".")[0]
        if name != "__all__" and (name.startswith("__") or name not in vars(sys.modules[package])):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        imported = "…" if name == "__all__" else name
        raise ImportError(f"there is no {self.__name__} any more: write `from {package} import {imported}`")
