"""A dense layer with what surrounds it in one op: the last one with its loss, and the gradients of any
one by its weight, its bias and its input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dispatch.case import Array, Case, Spec, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError
from . import epilogue
from .epilogue import LINEAR, ULPS
from .fused import matmul_bias_activation
from .loss import sparse_softmax_cross_entropy
from .matmul import matmul

FUNCTIONS = (LINEAR, "relu")
"""The activations whose gradient `dense_grad` takes: their slope is 0 or 1."""


def _head_outputs(x: Spec, weight: Spec, b: Spec, labels: Spec, factors: Spec) -> tuple[Spec, Spec, Spec]:
    name = "dense_softmax_cross_entropy"
    (logits,) = matmul.specs(x, weight, transpose_a=False, transpose_b=False)
    if b.shape != logits.shape[1:]:
        raise ShapeError(f"{name}: there are {logits.shape[1]} classes but b has shape {b.shape}")
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"{name}: labels must be integers of shape {logits.shape[:1]} and are {labels.shape} {labels.dtype}"
        )
    if factors != x.like(*logits.shape[:1]):
        raise ShapeError(f"{name}: factors must be {x.dtype} of shape {logits.shape[:1]} and are {factors.shape}")
    return logits, factors, logits


def _head_sums(x: Array, weight: Array, b: Array, labels: Array, factors: Array) -> tuple[Array, Array, Array]:
    """The loss changes by at most twice the largest change of a logit, and a probability by less than
    one."""
    sums = x @ weight + b
    largest = sums.max(axis=1)
    return sums, 2 * largest, np.broadcast_to((largest * factors)[:, None], sums.shape)


def _head_case(name: str, n: int, inputs: int, classes: int, bench: bool = False) -> Case:
    operands = real(n, inputs), real(inputs, classes), real(classes), integers(n, high=classes), real(n, high=0.1)
    return Case(name, operands, {}, bench)


@op(
    outputs=_head_outputs,
    cases=[
        _head_case("one", 1, 1, 2),
        _head_case("one_class", 3, 5, 1),
        _head_case("ragged", 7, 37, 5),
        _head_case("long", 5, 300, 10),
        _head_case("quads", 12, 64, 12),
        _head_case("many_classes", 6, 40, 32),
        _head_case("slides", 128, 100, 10, True),
        _head_case("torres", 100, 1024, 10, True),
        _head_case("cifar", 512, 512, 10, True),
    ],
    prefer=("rows", "blas", "direct"),
    flops=lambda x, weight, *_: 2 * math.prod(x.shape) * weight.shape[1],
    terms=lambda x, *_: x.shape[1] + 1,
    sums=_head_sums,
    ulps=ULPS,
)
def dense_softmax_cross_entropy(
    x: Array, weight: Array, b: Array, labels: Array, factors: Array
) -> tuple[Array, Array, Array]:
    """-log softmax(x @ weight + b) at the label of each row, and the gradient of the reduced loss.

    x        (N, inputs)
    weight   (inputs, K)
    b        (K,)
    labels   (N,) integers in [0, K)
    factors  (N,): gradient of the reduced loss with respect to the loss of each row
    →        logits (N, K), loss of each row (N,), dlogits (N, K) of the reduced loss
    """
    logits = x @ weight + b
    losses, dlogits = sparse_softmax_cross_entropy.reference(logits, labels)
    return logits, losses, dlogits * factors[:, None]


def _grad_outputs(dy: Spec, kept: Spec | None, x: Spec, weight: Spec, *, function: str) -> tuple[Spec, Spec, Spec]:
    name = "dense_grad"
    if function not in FUNCTIONS:
        raise ArgumentError(f"{name}: function={function!r}: use one of {', '.join(FUNCTIONS)}")
    (y,) = matmul.specs(x, weight, transpose_a=False, transpose_b=False)
    if dy != y or (kept is None) != (function == LINEAR) or kept not in (None, y):
        raise ShapeError(
            f"{name}: dy {dy.shape} and kept {kept and kept.shape} need the shape of x @ weight, {y.shape}; "
            f"with {LINEAR}, kept is None"
        )
    return weight, weight.like(weight.shape[1]), x


def _grad_case(name: str, n: int, inputs: int, units: int, function: str = "relu", bench: bool = False) -> Case:
    kept = None if function == LINEAR else real(n, units)
    return Case(name, (real(n, units), kept, real(n, inputs), real(inputs, units)), {"function": function}, bench)


@op(
    outputs=_grad_outputs,
    cases=[
        _grad_case("one", 1, 1, 1),
        _grad_case("ragged", 7, 37, 5),
        _grad_case("ragged_linear", 7, 37, 5, LINEAR),
        _grad_case("quads", 36, 68, 20),
        _grad_case("quads_linear", 36, 68, 20, LINEAR),
        _grad_case("beyond_tiles", 70, 130, 67),
        _grad_case("long", 300, 12, 4),
        _grad_case("long_rows", 4, 12, 300),
        _grad_case("slides_1", 128, 320, 100, bench=True),
        _grad_case("slides_2", 128, 100, 10, LINEAR, True),
        _grad_case("torres", 100, 1024, 10, LINEAR, True),
        _grad_case("cifar", 512, 512, 10, LINEAR, True),
    ],
    prefer=("sliced", "blas", "direct"),
    gradient_of=matmul_bias_activation,
    flops=lambda dy, kept, x, weight, **_: 4 * math.prod(x.shape) * weight.shape[1],
    terms=lambda dy, kept, x, weight, **_: max(dy.shape),
)
def dense_grad(dy: Array, kept: Array | None, x: Array, weight: Array, *, function: str) -> tuple[Array, Array, Array]:
    """The gradients of y = f(x @ weight + b) with respect to weight, b and x.

    dy        (N, units)
    kept      y (N, units); None if f is linear
    x         (N, inputs)
    weight    (inputs, units)
    function  name of f: relu or linear
    →         dweight (inputs, units), db (units,), dx (N, inputs)
    """
    dz: Any = epilogue.gradient(dy, kept, function, 0.0)  # type: ignore[arg-type]
    return x.T @ dz, dz.sum(axis=0), dz @ weight.T
