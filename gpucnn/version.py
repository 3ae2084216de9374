"""The version of gpucnn."""

__version__ = "0.1.0"
