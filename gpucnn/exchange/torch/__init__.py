"""Models to PyTorch: a Python file with an `nn.Module`, and its `state_dict`; weights back from one."""

from .files import WEIGHTS_SUFFIX, export
from .states import load_state_dict, state_dict

__all__ = ["WEIGHTS_SUFFIX", "export", "load_state_dict", "state_dict"]
