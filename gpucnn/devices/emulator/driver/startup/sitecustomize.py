"""Starts a Python process on the emulated GPU: this folder is in PYTHONPATH of such processes."""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

if os.environ.get("GPUCNN_EMULATED_GPU"):
    try:
        from gpucnn.devices.emulator import driver

        driver.start()
    except Exception as error:
        sys.exit(f"gpucnn: error: the emulated GPU cannot be started: {error}")

# What the environment itself has under this name.
_others = [folder for folder in sys.path if Path(folder or ".").resolve() != Path(__file__).parent]
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", _others)
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))
