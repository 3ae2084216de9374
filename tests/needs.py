"""What a test needs that a machine may lack."""

import importlib.util

import pytest

from gpucnn.devices import emulator

emulator_here = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
nvrtc_here = pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda-bindings is not installed")
