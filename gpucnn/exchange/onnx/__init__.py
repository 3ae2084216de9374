"""Models to and from ONNX files, which onnxruntime and most other libraries run."""

from .export import export
from .importing import load

__all__ = ["export", "load"]
