"""A dense layer by BLAS; bias and activation follow by vectors while a part of the result is in
cache."""

from __future__ import annotations

import numpy as np

from gpucnn.devices.njit import njit
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import kernel
from gpucnn.ops.fused import matmul_bias_activation

from ..shared.blas_numpy import multiply
from ..shared.epilogue_njit import call, end
from ..shared.simd_njit import add, load, load_some, store, store_some

_FLOAT32 = np.dtype(np.float32)


def _supports(x: Spec, weight: Spec, b: Spec, **_: object) -> bool:
    return x.dtype == _FLOAT32


@kernel(matmul_bias_activation, "blas", "njit", supports=_supports)
def launch(y, *arrays, function, alpha, keep_input):
    """y = f(x @ weight + b); what f is applied to comes second if it is kept."""
    sums, (x, weight, b) = (arrays[0] if keep_input else y), arrays[keep_input:]
    address, flat, flat_sums = end(function), y.reshape(-1), sums.reshape(-1)

    def finish(part: tuple[slice, slice]) -> None:
        (top, bottom, _), (left, right, _) = (p.indices(n) for p, n in zip(part, y.shape, strict=True))
        _finish(flat, flat_sums, b, address, np.float32(alpha), (top, bottom, left, right))

    multiply(sums, x, weight, finish)


@njit(nogil=True, cache=True, error_model="numpy")
def _finish(y, sums, b, function, alpha, part):
    """Row by row: the bias, then the function."""
    top, bottom, left, right = part
    whole = left + (right - left) // 8 * 8
    for row in range(top, bottom):
        o = row * b.shape[0]
        for k in range(left, whole, 8):
            store(sums, o + k, add(load(sums, o + k), load(b, k)))
        if whole < right:
            few = right - whole
            z = add(load_some(sums, o + whole, few), load_some(b, whole, few))
            store_some(sums, o + whole, few, z)
        if function:
            call(function, y, o + left, sums, o + left, sums, o + left, right - left, alpha)
