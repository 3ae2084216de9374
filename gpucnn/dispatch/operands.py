"""The arrays of a call: on the device in use, such that kernels can take them, and the error where no
kernel does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..devices import choose
from ..devices.cpu import CPU
from ..devices.device import Device
from ..errors import ArgumentError, KernelError, did_you_mean
from .case import Spec

_UNFIT = "a view with gaps or exchanged axes, or from an address that is not aligned, cannot be written by kernels"


def require_owned(op: str, where: Device, arrays: Sequence[Any], names: Sequence[str]) -> None:
    """Raise `ArgumentError` for an operand that is not an array of the device."""
    for name, array in zip(names, arrays, strict=False):
        if array is not None and not where.owns(array):
            raise ArgumentError(
                f"{op}: {name} is a {type(array).__name__} but the device in use is {where.name}: copy it there with "
                "gpucnn.devices.storage.own"
            )


def as_kernels_take_them(op: str, where: Device, arrays: tuple, names: Sequence[str], inplace: Sequence[int]) -> tuple:
    """The operands, copied if they are not contiguous or start at an odd address. Raises
    `ArgumentError` for such a one that is updated in place."""
    fit = [a is None or where.takes(a) for a in arrays]
    if all(fit):
        return arrays
    for i in inplace:
        if not fit[i]:
            raise ArgumentError(
                f"{op} updates {names[i]} in place: {_UNFIT}, so pass an array that gpucnn.devices.storage.empty has "
                "made"
            )
    return tuple(a if fits else where.copied(a) for a, fits in zip(arrays, fit, strict=True))


def targets_of(op: str, where: Device, out: Any, specs: tuple[Spec, ...]) -> tuple:
    """The arrays of `out`, one for each result, or None where a result is to be allocated. Raises
    `ArgumentError` for one that does not fit."""
    targets = out if isinstance(out, tuple) else (out,)
    if len(targets) != len(specs):
        arrays = f"{len(specs)} array" + "s" * (len(specs) != 1)
        raise ArgumentError(f"{op} returns {arrays} but out= has {len(targets)}: pass None for each one to allocate")
    for target, spec in zip(targets, specs, strict=True):
        if target is None:
            continue
        if not where.owns(target):
            raise ArgumentError(
                f"{op}: out is a {type(target).__name__} but the device in use is {where.name}: create it there with "
                "gpucnn.devices.storage.empty"
            )
        if target.shape != spec.shape or target.dtype != spec.dtype:
            raise ArgumentError(
                f"{op}: out is {target.shape} {target.dtype} but the result is {spec.shape} {spec.dtype}"
            )
        if not where.takes(target):
            raise ArgumentError(
                f"{op}: out of shape {target.shape}: {_UNFIT}, so create it with gpucnn.devices.storage.empty"
            )
    return targets


def refusal(
    op: str,
    backends: Sequence[str],
    algorithms: Sequence[str],
    operands: Sequence[Spec | None],
    params: dict[str, Any],
    name: str | None,
) -> KernelError:
    """The error for a call that none of the registered algorithms serves; `name` is the chosen one."""
    shapes = ", ".join("None" if s is None else f"{s.shape} {s.dtype}" for s in operands)
    registered = [*sorted(algorithms), *(["reference"] if choose.current() is CPU else [])]
    request = name or "auto"
    near = did_you_mean(request, registered) if name and name not in registered else ""
    return KernelError(
        f"{op}: no {'/'.join(backends)} kernel for this call. Requested: {request}{near and f' ({near})'}; "
        f"registered: {', '.join(registered) or 'none'}; shapes {shapes}, {params}"
    )
