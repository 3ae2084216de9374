"""The library: cuBLAS, for comparison. It is never chosen unasked, and needs a GPU: nothing else runs it."""

from gpucnn import device
from gpucnn.ops.matmul import matmul
from gpucnn.registry import kernel


def supports(a, b, **_):
    """Whether the device in use is a GPU."""
    return device.current().name.startswith("gpu")


@kernel(matmul, "cublas", "cuda", supports=supports)
def launch(y, a, b, *, transpose_a, transpose_b):
    """One call of the library, in float32."""
    device.current().cublas_matmul(y, a, b, transpose_a, transpose_b)
