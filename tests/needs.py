"""What a test needs that a machine may lack, and the tests that take minutes."""

import importlib.util
import os
import shutil

import processes
import pytest

from gpucnn.devices import choose, emulator, njit
from gpucnn.devices.emulator import driver
from gpucnn.profiling import static_analysis


def _unless(reason):
    """Skip with this reason; None runs the test."""
    return pytest.mark.skipif(reason is not None, reason=str(reason))


def browser():
    """The Chromium of this machine; None without one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _package(module, name):
    return _unless(None if importlib.util.find_spec(module) else f"{name} is not installed")


numba_here = _unless(njit.unavailable())
emulator_here = _unless(emulator.unavailable())
emulated_gpu_here = _unless(driver.unavailable())
compilers_here = _unless(static_analysis.unavailable())
nvrtc_here = _package("cuda", "cuda-bindings")
onnx_here = _package("onnx", "onnx")
onnxruntime_here = _package("onnxruntime", "onnxruntime")
tensorboardx_here = _package("tensorboardX", "tensorboardX")
optuna_here = _package("optuna", "optuna")
h5py_here = _package("h5py", "h5py")
keras_here = _package("keras", "Keras")
yaml_here = _package("yaml", "PyYAML")
torch_here = _package("torch", "PyTorch")
jax_here = _package("jax", "JAX")
mpi_here = _unless(
    None
    if importlib.util.find_spec("mpi4py") and processes.mpiexec()
    else "mpi4py and an mpiexec are not installed: pip install 'gpucnn[mpi]'"
)
browser_here = _unless(
    None if importlib.util.find_spec("playwright") and browser() else "playwright and Chromium are not installed"
)
numba_cuda_here = _package("numba_cuda", "numba-cuda")
gpu_here = _unless(None if choose.gpu_state()[0] else f"no GPU here: {choose.gpu_state()[1]}")
posix_here = _unless(None if os.name == "posix" else "needs fork, POSIX signals and file locks")
takes_long = _unless(None if os.environ.get("GPUCNN_TEST_ALL") else "takes minutes: GPUCNN_TEST_ALL=1")
