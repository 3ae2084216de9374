"""One of several functions, chosen by its name while a kernel is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numba.extending import overload


def by_name(functions: Mapping[str, Any]) -> Callable[..., Any]:
    """A function for kernels: chosen(name, ...) is functions[name](...).

    The name is a literal, or a variable of the function around the kernel, so that a kernel has the
    code of one function alone, and one text serves all.
    """

    def chosen(name: str, *args: Any) -> Any:
        return functions[name](*args)

    @overload(chosen, jit_options={"forceinline": True}, prefer_literal=True)
    def _chosen(name, *args):
        function = functions[name.literal_value]
        return lambda name, *args: function(*args)

    return chosen
