"""Where the paths of a graph part and where they meet again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..layers import Parallel, Residual
from ..layers.layer import Layer
from ..layers.parallel import Merge

DEEPEST = 16
"""How deep branches may lie inside each other."""


class Branches:
    """The values of a graph with one input, in an order in which they can be computed.

    inputs  what each value is computed from; nothing for the input of the graph
    """

    def __init__(self, inputs: Mapping[str, Sequence[str]]) -> None:
        self.inputs = inputs
        self._last_fork: dict[str, str] = {}
        """The last value on all ways to a value: its immediate dominator."""
        self._depth: dict[str, int] = {}
        for value, sources in inputs.items():
            if not sources:
                self._depth[value] = 0
                continue
            common = sources[0]
            for other in sources[1:]:
                common = self._common(common, other)
            self._last_fork[value], self._depth[value] = common, self._depth[common] + 1

    def _common(self, first: str, second: str) -> str:
        while first != second:
            if self._depth[first] >= self._depth[second]:
                first = self._last_fork[first]
            else:
                second = self._last_fork[second]
        return first

    def fork(self, value: str) -> str:
        """The last value that all ways to a value pass: where the paths that meet in it part."""
        return self._last_fork[value]

    def between(self, start: str, end: str) -> set[str]:
        """The values after `start` on the ways to `end`, which is one of them; none if both are the same.

        `start` must lie on all ways to `end`.
        """
        found, waiting = set[str](), [end]
        while waiting:
            value = waiting.pop()
            if value != start and value not in found:
                found.add(value)
                waiting += self.inputs[value]
        return found


def block(paths: Sequence[list[Layer]], merge: Merge) -> Layer:
    """The layer that merges paths: Residual for the sum of two, else Parallel."""
    if merge == "add" and len(paths) == 2 and any(paths):
        first, second = paths if paths[0] else reversed(paths)
        return Residual(first, second or None)
    return Parallel(paths, merge=merge)
