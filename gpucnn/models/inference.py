"""The forward pass of `predict`: fewer layers, whose launches are recorded (`plans`).

On the CPU, with compiled kernels and no algorithm chosen, a BatchNormalization is folded into the
convolution before it, an activation is joined with a convolution or dense layer before it, and dropout
is left out. The weights of a dense layer are many: to see whether they have changed takes longer than
a normalization of its results. What is folded follows the weights however they change: kernels that are
recorded with the others compute it again in each call, or in those of a plan that find a weight changed.
Results differ from those of the separate layers by rounding alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

import numpy as np

from ..activations import UserFunction
from ..config import changes
from ..devices import choose, threads
from ..devices.cpu import CPU
from ..devices.recorders import prepared
from ..dispatch import choice, precision
from ..layers.activation import Activation
from ..layers.batch_normalization import BatchNormalization
from ..layers.convolution_base import Convolution
from ..layers.dense import Dense
from ..layers.dropout import Dropout
from ..layers.layer import Activated, Layer, Weight, every
from ..layers.parallel import Parallel
from ..ops.batchnorm import batchnorm_inference
from . import fusion, memory, resident
from .batches import Arrays
from .model import Model, computing
from .node import Node
from .plans import Parted, changing


class Inference:
    """The forward pass of a model, with its plans."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._state: list[Any] = []
        self._seen: tuple[Any, ...] = ()
        self._program = Parted([], [], recordable=False, head=0)

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle starts without plans."""
        return {"model": self._model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def nodes(self) -> list[Node]:
        """What a forward pass runs through, planned again after any change of the layers or of the
        choice of kernels."""
        with changing:
            if not self._hold():
                self._state = _state(self._model.layers)
                layers, folds = simplified(self._model.layers)
                nodes = fusion.program(layers, False)
                recordable = all(map(_is_recordable, every(self._model.layers)))
                self._program = Parted(nodes, folds, recordable, _head(nodes))
            return self._program.whole.nodes

    def _hold(self) -> bool:
        """Whether the nodes are those for the layers as they are. Only where something was assigned to any
        layer or weight since the last look, all of them are compared."""
        seen = changes(), choice.decides(), fusion.is_enabled(), self._model.layers[:]
        if seen != self._seen:
            if not _same(_state(self._model.layers), self._state):
                return False
            self._seen = seen
        return True

    def takes(self, x: Any, batch_size: Any) -> bool:
        """Whether x is of a kind that can be recorded, on a GPU as one batch: then `of_plain` returns its output
        without hooks and checks for each batch."""
        size, expected = _rows(batch_size), self._model.input_shape
        if not _is_plain(x) or not size or not len(x):
            return False
        fits = expected is not None and x.shape[1:] == expected[1:] and self._model.built
        return fits and (choose.current() is CPU or (len(x) <= size and resident.is_used()))

    def of_plain(self, x: np.ndarray, batch_size: int | None) -> np.ndarray:
        """The output for an array that `takes` has accepted. Whether a weight has changed is looked up once."""
        size, compared = _rows(batch_size), set[Any]()
        memory_needed = memory.explained(self._model, Arrays(x, None, None, min(size, len(x))))
        with threads.one_blas_thread(), computing(self._model), memory_needed:
            self.nodes()
            batches = (x[start : start + size].astype(np.float32, copy=False) for start in range(0, len(x), size))
            outputs = [self(batch, compared) for batch in batches]
        y = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
        return y.copy() if np.may_share_memory(x, y) else y

    def replayed(self, x: Any, batch_size: Any) -> np.ndarray | None:
        """The output of plans if there is one for each batch of x as a whole, and they hold: then their weights are
        where they were, and need not be brought or kept. On a GPU, that is for one batch."""
        size = _rows(batch_size)
        if not _is_plain(x) or not size or not len(x) or self._model.precision != precision.FLOAT32:
            return None
        if len(x) > size and choose.current() is not CPU:
            return None
        with changing:
            if x[:size].shape not in self._program.whole.plans or not self._hold():
                return None
            program = self._program.whole
        return program.by_plans(x, size)

    def __call__(self, x: np.ndarray, compared: set[Any] | None = None) -> np.ndarray:
        """The output for one batch, on the host, in an array that the caller may keep; `compared` as in `Program`."""
        records = "njit" in choice.backends() if choose.current() is CPU else resident.is_used()
        return self._program(x, compared) if records else self._program.whole.directly(x)


def _rows(batch_size: Any) -> int:
    """The rows of a batch; 0 for what is to be refused."""
    if batch_size is None:
        return 32
    return batch_size if type(batch_size) is int and batch_size > 0 else 0


def _is_plain(x: Any) -> bool:
    """Whether x is an array of float32, or of bytes, in the order of C."""
    return type(x) is np.ndarray and x.dtype in (np.float32, np.uint8) and x.flags.c_contiguous


def _is_recordable(layer: Layer) -> bool:
    """Whether gpucnn defines all that the layer computes."""
    own = type(layer).__module__.startswith("gpucnn.")
    return own and not (isinstance(layer, Activated) and isinstance(layer.activation, UserFunction))


def _head(nodes: list[Node]) -> int:
    """The first node with a dense layer: products of matrices may round otherwise for another number of images,
    where all other layers compute each image by itself. It is 0 where no layer before it has weights."""
    is_dense = [any(isinstance(layer, Dense) for layer in every(node.layers)) for node in nodes]
    head = is_dense.index(True) if True in is_dense else len(nodes)
    return head if any(layer.weights for node in nodes[:head] for layer in node.layers) else 0


def _state(layers: list[Layer]) -> list[Any]:
    """All objects on which the nodes and their arrays depend."""
    parts: list[Any] = [*choice.decides(), fusion.is_enabled()]
    _add_parts(layers, parts)
    return parts


def _add_parts(layers: Iterable[Layer], parts: list[Any]) -> None:
    for layer in layers:
        parts.append(layer)
        parts.extend(vars(layer).values())
        for weight in layer.weights:
            parts.append(weight.value)
        if layer.inner:
            _add_parts(layer.inner, parts)


def _same(state: list[Any], other: list[Any]) -> bool:
    """Whether both are the same objects."""
    return len(state) == len(other) and all(map(is_, state, other))


# -- fewer layers ------------------------------------------------------------------------------------------------------


def simplified(layers: list[Layer]) -> tuple[list[Layer], list[Callable[[], None]]]:
    """(layers that compute the same in inference, functions that compute what is folded into them)."""
    if choose.current() is not CPU or choice.backend() != "njit" or choice.algorithms() or not fusion.is_enabled():
        return layers, []
    if precision.in_force() != precision.FLOAT32:  # the weights are what is rounded
        return layers, []
    result: list[Layer] = []
    folds: list[Callable[[], None]] = []
    for layer in layers:
        last = result[-1] if result else None
        if isinstance(layer, Parallel):
            layer = _simplified_paths(layer, folds)
        if type(layer).__module__ != "gpucnn.layers.dropout" or not isinstance(layer, Dropout):
            joined = None if last is None else _joined(last, layer, folds)
            result[-1:] = [joined] if joined is not None else [*result[-1:], layer]
    return result, folds


def _simplified_paths(layer: Parallel, folds: list[Callable[[], None]]) -> Parallel:
    """The same layer with fewer layers in its paths."""
    copied = copy.copy(layer)
    copied.paths = []
    for path in layer.paths:
        fewer, of_path = simplified(path)
        copied.paths.append(fewer)
        folds += of_path
    copied.inner = [part for path in copied.paths for part in path]
    return copied


def _joined(last: Layer, layer: Layer, folds: list[Callable[[], None]]) -> Layer | None:
    """One layer for two; None if they stay apart."""
    if not isinstance(last, Convolution | Dense) or not type(last).__module__.startswith("gpucnn."):
        return None
    if last.activation.name != "linear":
        return None
    if type(layer) is BatchNormalization and isinstance(last, Convolution) and last.filters_last:
        folded = copy.copy(last)
        folds.append(_fold(folded, last, layer))
        return folded
    if isinstance(layer, Activation) and type(layer).__module__ == Activation.__module__:
        joined = copy.copy(last)
        joined.activation, joined.activity_regularizer = layer.activation, None
        return joined
    return None


def _fold(joined: Any, linear: Any, norm: BatchNormalization) -> Callable[[], None]:
    """Give `joined` weights for both layers; returns the function that computes them.

    Both are what the normalization makes of those of `linear`: with scale = gamma / √(variance + epsilon),
    gamma · (x · w + b - mean) / √(variance + epsilon) + beta is x · (w · scale) + (b - mean) · scale + beta.
    """
    filters = norm.moving_mean.shape
    kernel, bias = Weight(linear.kernel.shape, "zeros", trainable=False), Weight(filters, "zeros", trainable=False)
    joined.kernel, joined.bias, joined.use_bias, joined.activity_regularizer = kernel, bias, True, None
    zeros, rows = np.zeros(filters, np.float32), (-1, *filters)

    def fold() -> None:
        scale = norm.gamma.value if norm.gamma is not None else None
        beta = norm.beta.value if norm.beta is not None else None
        before = linear.bias.value if linear.use_bias else zeros
        mean, variance, epsilon = norm.moving_mean.value, norm.moving_variance.value, norm.epsilon
        for values, shift, center, result in (
            (linear.kernel.value, None, zeros, kernel.value),
            (before, beta, mean, bias.value),
        ):
            operands = values.reshape(rows), scale, shift, center, variance
            with prepared(result, *operands) as folded:
                batchnorm_inference(*operands, epsilon=epsilon, out=folded.reshape(rows))

    return fold
