"""Nodes of constants alone, and of the sizes of tensors, that exporters leave in a graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .building import Unreadable
from .reading import Node


def fold(node: Node, constants: dict[str, np.ndarray]) -> None:
    """Compute a node of constants, and add it to them. Raises `Unreadable` for one that is computed
    otherwise."""
    compute, names = _FOLDED.get(node.op), [name for name in node.inputs if name]
    if compute is None or not names or any(name not in constants for name in names):
        raise Unreadable("does not depend on the input: export the model with its constants folded")
    constants[node.outputs[0]] = compute([constants[name] for name in names], node)


def _transposed(arrays: list[np.ndarray], node: Node) -> np.ndarray:
    return arrays[0].transpose(node.attributes.get("perm"))


def _of_sizes(
    compute: Callable[[list[np.ndarray], Node], np.ndarray],
) -> Callable[[list[np.ndarray], Node], np.ndarray]:
    """The same for a few integers alone, which a file computes from the size of a tensor."""

    def checked(arrays: list[np.ndarray], node: Node) -> np.ndarray:
        if any(array.dtype.kind != "i" or array.ndim > 1 or array.size > 16 for array in arrays):
            raise Unreadable("does not depend on the input: export the model with its constants folded")
        return compute(arrays, node)

    return checked


_FOLDED: dict[str, Callable[[list[np.ndarray], Node], np.ndarray]] = {
    "Concat": _of_sizes(lambda arrays, node: np.concatenate(arrays)),
    "Gather": _of_sizes(lambda arrays, node: arrays[0][arrays[1]]),
    "Identity": lambda arrays, node: arrays[0],
    "Transpose": _transposed,
    "Unsqueeze": _of_sizes(lambda arrays, node: arrays[0].reshape(-1)),
}
"""Nodes of constants, and of the sizes of tensors."""
