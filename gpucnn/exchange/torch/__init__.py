"""Models to PyTorch: a Python file with an `nn.Module`, and its `state_dict`; weights back from one."""

from .files import export
from .states import load_state_dict, state_dict

__all__ = ["export", "load_state_dict", "state_dict"]
