"""Models to and from ONNX files, which onnxruntime and most other libraries run."""

from .export import export

__all__ = ["export"]
