"""The backends that run ops."""

import pytest
from needs import emulator_here

import gpucnn


@pytest.fixture(params=["numpy", *(pytest.param(name, marks=emulator_here) for name in ("cuda", "numba"))])
def backend(request):
    """NumPy on the CPU, then each backend for GPUs in the emulator."""
    with gpucnn.using(request.param, device="cpu" if request.param == "numpy" else "emulator"):
        yield request.param
