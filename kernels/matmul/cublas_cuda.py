"""cuBLAS, NVIDIA's library: the product to compare all others with, since it reaches nearly the
peak of the GPU.

It is chosen only by name and needs a GPU. The library is called through ctypes on CuPy's handle and
current stream, so that the call can be captured in a graph like any other launch.
"""

from __future__ import annotations

from ctypes import byref, c_float, c_int, c_void_p

from gpucnn.devices import choose
from gpucnn.dispatch.op import kernel
from gpucnn.errors import LaunchError
from gpucnn.ops.matmul import matmul


def supports(a, b, **_):
    """Whether the device in use is a GPU."""
    return choose.current().name.startswith("gpu")


@kernel(matmul, "cublas", "cuda", supports=supports)
def launch(y, a, b, *, transpose_a, transpose_b):
    """One call in float32. cuBLAS stores matrices by columns, so it computes yᵀ = bᵀ · aᵀ: the
    operands swap places."""
    library, handle = choose.current().cublas()
    M, N = y.shape
    K = a.shape[0] if transpose_a else a.shape[1]
    operations = c_int(transpose_b), c_int(transpose_a)
    right, left = ((c_void_p(matrix.data.ptr), c_int(matrix.shape[1])) for matrix in (b, a))
    status = library.cublasSgemm_v2(
        handle, *operations, c_int(N), c_int(M), c_int(K), byref(c_float(1)), *right, *left, byref(c_float(0)),
        c_void_p(y.data.ptr), c_int(N),
    )  # fmt: skip
    if status:
        raise LaunchError(f"cuBLAS returned status {status}")
