"""The same ops in PyTorch, if it is installed, for comparison in benchmarks.

PyTorch gets views of gpucnn's arrays (NHWC, HWIO), which are its channels_last format: nothing is
copied or reordered while the clock runs. On a GPU the calls run on the stream that the clock
measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..devices import choose
from ..dispatch.op import Op
from ..version import installed_version

Call = Callable[[], Any]
"""Computes the result on the device in use and returns one or several arrays in gpucnn's layout."""


def torch_call(op: Op, operands: Sequence[Any], params: dict[str, Any], precision: str) -> Call | None:
    """PyTorch's version of a call on the device in use; None if it has none. Raises ImportError."""
    import torch

    maker = _TORCH.get(op.name)
    if maker is None:
        return None
    on_gpu = choose.current().name.startswith("gpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    tensors = [None if a is None else torch.from_dlpack(a) if on_gpu else torch.from_numpy(a) for a in operands]
    call = maker(torch, *tensors, **params)
    if call is None:
        return None

    def run() -> Any:
        with torch.no_grad():
            return call()

    def on_stream() -> Any:
        address = choose.current().stream()
        if not address:
            return run()
        place = next(t.device for t in tensors if t is not None)
        with torch.cuda.stream(torch.cuda.ExternalStream(address, device=place)):
            return run()

    return on_stream if on_gpu else run


def as_numpy(result: Any) -> tuple[np.ndarray, ...]:
    """The result of a call as host arrays."""
    results = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(tensor.detach().cpu().numpy() for tensor in results)


def torch_version() -> str | None:
    """The version of PyTorch; None where it is not installed."""
    return installed_version("torch")


def _window(strides: Any, padding: Any, dilation: Any, groups: int) -> dict[str, Any] | None:
    """The arguments of a convolution; None for padding that differs before and behind, which
    PyTorch lacks."""
    if any(before != after for before, after in padding):
        return None
    return {"stride": strides, "padding": [p for p, _ in padding], "dilation": dilation, "groups": groups}


def _conv2d(torch: Any, x: Any, weight: Any, **window: Any) -> Call | None:
    arguments = _window(**window)
    if arguments is None:
        return None
    x, weight = x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1)
    return lambda: torch.nn.functional.conv2d(x, weight, **arguments).permute(0, 2, 3, 1)


def _backward(torch: Any, dy: Any, x: Any, weight: Any, window: dict[str, Any], place: int) -> Any:
    mask = [i == place for i in range(3)]
    settings = (window["stride"], window["padding"], window["dilation"], False, [0, 0], window["groups"])
    return torch.ops.aten.convolution_backward(dy, x, weight, None, *settings, mask)[place]


def _conv2d_grad_input(torch: Any, dy: Any, weight: Any, *, size: Any, **window: Any) -> Call | None:
    arguments = _window(**window)
    if arguments is None:
        return None
    dy, weight = dy.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1)
    shape = (dy.shape[0], *size, weight.shape[1] * arguments["groups"])
    x = torch.empty(shape, dtype=dy.dtype, device=dy.device).permute(0, 3, 1, 2)
    return lambda: _backward(torch, dy, x, weight, arguments, 0).permute(0, 2, 3, 1)


def _conv2d_grad_weight(torch: Any, dy: Any, x: Any, *, kernel_size: Any, **window: Any) -> Call | None:
    arguments = _window(**window)
    if arguments is None:
        return None
    dy, x = dy.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)
    shape = (dy.shape[1], x.shape[1] // arguments["groups"], *kernel_size)
    weight = torch.empty(shape, dtype=dy.dtype, device=dy.device)
    return lambda: _backward(torch, dy, x, weight, arguments, 1).permute(2, 3, 1, 0)


def _matmul(torch: Any, a: Any, b: Any, *, transpose_a: bool, transpose_b: bool) -> Call:
    left, right = a.T if transpose_a else a, b.T if transpose_b else b
    return lambda: left @ right


def _pool(function: str, **fixed: Any) -> Callable[..., Call | None]:
    def make(torch: Any, x: Any, *, pool: Any, strides: Any, padding: Any) -> Call | None:
        if any(before != after or before > size // 2 for (before, after), size in zip(padding, pool, strict=True)):
            return None
        x, around = x.permute(0, 3, 1, 2), [p for p, _ in padding]
        pooled = getattr(torch.nn.functional, function)
        return lambda: pooled(x, pool, strides, around, **fixed).permute(0, 2, 3, 1)

    return make


def _activation(torch: Any, x: Any, *, function: str, alpha: float) -> Call | None:
    functions = {"relu": torch.relu, "tanh": torch.tanh, "gelu": torch.nn.functional.gelu, "sigmoid": torch.sigmoid}
    return None if function not in functions else lambda: functions[function](x)


def _softmax(torch: Any, x: Any) -> Call:
    return lambda: torch.softmax(x, -1)


def _bias(torch: Any, x: Any, b: Any) -> Call:
    return lambda: x + b


def _bias_grad(torch: Any, dy: Any) -> Call:
    rows = dy.reshape(-1, dy.shape[-1])
    return lambda: rows.sum(0)


_TORCH: dict[str, Callable[..., Call | None]] = {
    "conv2d": _conv2d,
    "conv2d_grad_input": _conv2d_grad_input,
    "conv2d_grad_weight": _conv2d_grad_weight,
    "matmul": _matmul,
    "maxpool2d": _pool("max_pool2d"),
    "avgpool2d": _pool("avg_pool2d", count_include_pad=False),
    "activation": _activation,
    "softmax": _softmax,
    "bias": _bias,
    "bias_grad": _bias_grad,
}
"""By op, the function that builds a call of PyTorch from tensors and parameters."""
