"""Models and weights to and from the files of Keras 3: `.keras` and `.weights.h5`.

The files are read as what they are, a zip archive, JSON and HDF5: Keras is not needed, nothing in a
file is imported or executed, and code in a file (`Lambda`) is refused.
"""

from .files import load, load_weights, save, save_weights

__all__ = ["load", "load_weights", "save", "save_weights"]
