"""What modules of PyTorch compute the activations of gpucnn, and the text of those that PyTorch lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

ACTIVATIONS = {
    "relu": "nn.ReLU()",
    "relu6": "nn.ReLU6()",
    "leaky_relu": "nn.LeakyReLU({})",
    "elu": "nn.ELU({})",
    "selu": "nn.SELU()",
    "celu": "nn.CELU({})",
    "sigmoid": "nn.Sigmoid()",
    "log_sigmoid": "nn.LogSigmoid()",
    "hard_sigmoid": "nn.Hardsigmoid()",
    "tanh": "nn.Tanh()",
    "tanh_shrink": "nn.Tanhshrink()",
    "hard_tanh": "nn.Hardtanh()",
    "hard_shrink": "nn.Hardshrink({})",
    "soft_shrink": "nn.Softshrink({})",
    "softplus": "nn.Softplus()",
    "softsign": "nn.Softsign()",
    "silu": "nn.SiLU()",
    "hard_silu": "nn.Hardswish()",
    "gelu": "nn.GELU()",
    "gelu_tanh": 'nn.GELU("tanh")',
    "mish": "nn.Mish()",
    "exponential": "Exponential()",
}

HELPERS = {
    "Parallel": """
class Parallel(nn.Module):
    \"\"\"Several paths from one input, whose results are added or joined along the channels.\"\"\"

    def __init__(self, merge, *paths):
        super().__init__()
        self.merge, self.paths = merge, nn.ModuleList(paths)

    def forward(self, x):
        results = [path(x) for path in self.paths]
        return sum(results[1:], results[0]) if self.merge == "add" else torch.cat(results, 1)
""",
    "RepeatVector": """
class RepeatVector(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, x):
        return x[:, None].expand(-1, self.n, -1)
""",
    "Slopes": """
class Slopes(nn.Module):
    \"\"\"A rectifier with learned slopes, one for each value or shared along axes of extent 1.\"\"\"

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        return torch.where(x > 0, x, self.weight * x)
""",
    "SoftmaxOver": """
class SoftmaxOver(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        powers = (x - x.amax(self.axes, keepdim=True)).exp()
        return powers / powers.sum(self.axes, keepdim=True)
""",
    "AveragePooling": """
class AveragePooling(nn.Module):
    \"\"\"The mean of each window; the padding, which differs from side to side, is not counted.\"\"\"

    def __init__(self, size, stride, padding):
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x):
        pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(self.size)]
        total, share = (pool(F.pad(t, self.padding), self.size, self.stride) for t in (x, torch.ones_like(x[:1, :1])))
        return total / share
""",
    "ClippedReLU": """
class ClippedReLU(nn.Module):
    \"\"\"min(x, max_value) above the threshold, negative_slope * (x - threshold) up to it.\"\"\"

    def __init__(self, max_value, negative_slope, threshold):
        super().__init__()
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def forward(self, x):
        return torch.where(x > self.threshold, x.clamp(max=self.max_value), self.negative_slope * (x - self.threshold))
""",
    "Exponential": """
class Exponential(nn.Module):
    def forward(self, x):
        return x.exp()
""",
    "Permute": """
class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)
""",
    "Rescaling": """
class Rescaling(nn.Module):
    def __init__(self, scale, offset):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset
""",
    "Reshape": """
class Reshape(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(len(x), *self.shape)
""",
    "Resizing": """
class Resizing(nn.Module):
    \"\"\"Bilinear interpolation at coordinates that are rounded to 1 / 65536 of a pixel, as gpucnn rounds them.\"\"\"

    def __init__(self, height, width):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x):
        for axis, new in ((2, self.height), (3, self.width)):
            old = torch.arange(x.shape[axis], device=x.device)
            step = round(len(old) * 65536 / new)
            place = torch.arange(new, device=x.device) * step + (step - 65536) // 2
            place = (place.double() / 65536).clamp(0, len(old) - 1)
            weights = (1 - (place[:, None] - old).abs()).clamp(min=0).to(x.dtype)
            x = torch.tensordot(x, weights, ([axis], [1])).movedim(-1, axis)
        return x
""",
}
"""Modules that PyTorch does not have; a file holds those that its model uses."""


def same(array: np.ndarray) -> np.ndarray:
    """The array itself."""
    return array


def unless_default(name: str, value: Any, default: Any) -> str:
    """`, name=value`, or nothing for PyTorch's default."""
    return "" if value == default else f", {name}={value}"


def last_first(pairs: Any) -> tuple[int, ...]:
    """The padding of each axis in PyTorch's order, which begins with the last axis."""
    return tuple(cells for pair in reversed(pairs) for cells in pair)
