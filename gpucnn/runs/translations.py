"""A gpucnn model as one of PyTorch and JAX, with the same weights, as the fastest code there.

PyTorch's images are channels first and JAX's channels last. Activations are those in `ACTIVATIONS`.
A layer that cannot be translated raises `Untranslated`. The modules of `gpucnn export` have more layers
and take images as gpucnn does, which costs time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import layers
from ..errors import GpucnnError
from ..layers.convolution_base import Convolution
from ..layers.layer import Layer
from ..layers.pooling import Pooling
from ..models.sequential import Sequential

ACTIVATIONS = {
    # gpucnn: PyTorch's module, JAX's function, ONNX' operator
    "relu": ("ReLU", "relu", "Relu"),
    "tanh": ("Tanh", "tanh", "Tanh"),
    "sigmoid": ("Sigmoid", "sigmoid", "Sigmoid"),
    "elu": ("ELU", "elu", "Elu"),
    "gelu": ("GELU", "gelu", "Gelu"),
    "silu": ("SiLU", "silu", "Silu"),
    "softmax": ("Softmax", "softmax", "Softmax"),
}

_GLOBAL = {"GlobalAveragePooling": "mean", "GlobalMaxPooling": "max"}


class Untranslated(GpucnnError):
    """A layer that has no translation here."""


def channels_first(x: np.ndarray) -> np.ndarray:
    """(n, …, channels) as (n, channels, …)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def activation_of(layer: Layer) -> str | None:
    """The name of the layer's activation; None for none. Raises `Untranslated`."""
    name = getattr(getattr(layer, "activation", None), "name", "linear")
    if name == "linear":
        return None
    if name not in ACTIVATIONS:
        raise Untranslated(f"{layer.name} has the activation {name}")
    return name


def global_pooling(layer: Layer) -> str | None:
    """ "mean" or "max" for a layer that pools whole samples, else None."""
    return _GLOBAL.get(type(layer).__name__[:-2])


def kernel_of(layer: Convolution) -> tuple[np.ndarray, np.ndarray | None, int]:
    """The kernel (…, channels of a group, filters), the bias and the number of groups. Raises `Untranslated` for a
    layer with several kernels, or whose kernel is transposed."""
    if not layer.filters_last:
        raise Untranslated(f"{layer.name} has no translation")
    weight, *bias = layer.get_weights()
    groups = layer.groups
    if isinstance(layer, layers.DepthwiseConv2D):
        groups = weight.shape[-2]
        weight = weight.reshape(*weight.shape[:-2], 1, -1)
    return weight, (bias[0] if bias else None), groups


def padding_of(layer: Any) -> tuple[tuple[int, int], ...]:
    """Cells before and after each axis of the images."""
    return layer._padding(layer.input_shape[1:-1])


def dense_weight(weight: np.ndarray, flattened: tuple[int, ...] | None) -> np.ndarray:
    """The kernel of a Dense layer for images that were flattened channels first."""
    if flattened is None:
        return weight
    return np.moveaxis(weight.reshape(*flattened, -1), -2, 0).reshape(weight.shape)


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def as_torch(model: Sequential) -> Any:
    """A module that returns logits where the model ends in softmax."""
    from torch import nn

    parts: list[nn.Module] = []
    flattened: tuple[int, ...] | None = None
    for layer in model.layers:
        if isinstance(layer, Convolution):
            parts += _torch_convolution(layer)
        elif isinstance(layer, layers.Dense):
            weight, *bias = layer.get_weights()
            linear = nn.Linear(weight.shape[0], weight.shape[1], bias=bool(bias))
            _fill(linear, dense_weight(weight, flattened).T, *bias)
            parts.append(linear)
            flattened = None
        elif isinstance(layer, Pooling):
            parts += _torch_pooling(layer)
        elif pooled := global_pooling(layer):
            parts.append(_torch_global(pooled))
        elif isinstance(layer, layers.BatchNormalization):
            parts.append(_torch_normalization(layer))
        elif isinstance(layer, layers.Dropout):
            parts.append(nn.Dropout(layer.rate))
        elif isinstance(layer, layers.Flatten):
            sample = (layer.input_shape or ())[1:]
            flattened = sample if len(sample) > 1 else None
            parts.append(nn.Flatten())
        elif not isinstance(layer, layers.Activation):
            raise Untranslated(f"{layer.name} has no translation")
        name = activation_of(layer)
        if name and not (name == "softmax" and layer is model.layers[-1]):
            parts.append(getattr(nn, ACTIVATIONS[name][0])(*([-1] if name == "softmax" else [])))
    return nn.Sequential(*parts)


def _fill(module: Any, *values: np.ndarray) -> None:
    import torch

    for parameter, value in zip(module.parameters(), values, strict=True):
        parameter.data = torch.from_numpy(np.array(value, order="C"))


def _torch_convolution(layer: Convolution) -> list[Any]:
    from torch import nn

    weight, bias, groups = kernel_of(layer)
    before, padding = _torch_padding(padding_of(layer), 0.0)
    make = getattr(nn, f"Conv{layer.rank}d")
    options = {"stride": layer.strides, "padding": padding, "dilation": layer.dilation_rate, "groups": groups}
    part = make(weight.shape[-2] * groups, weight.shape[-1], weight.shape[:-2], bias=bias is not None, **options)
    _fill(part, np.moveaxis(weight, (-1, -2), (0, 1)), *([] if bias is None else [bias]))
    return [*before, part]


def _torch_padding(pairs: tuple[tuple[int, int], ...], value: float) -> tuple[list[Any], tuple[int, ...]]:
    """Modules that pad, where the layer itself cannot because the sides differ, and its padding."""
    from torch import nn

    if all(a == b for a, b in pairs):
        return [], tuple(a for a, _ in pairs)
    sides = [side for pair in reversed(pairs) for side in pair]
    return [getattr(nn, f"ConstantPad{len(pairs)}d")(sides, value)], (0,) * len(pairs)


def _torch_pooling(layer: Pooling) -> list[Any]:
    from torch import nn

    if "Max" in type(layer).__name__:
        before, padding = _torch_padding(padding_of(layer), -np.inf)
        return [*before, getattr(nn, f"MaxPool{layer.rank}d")(layer.pool_size, layer.strides, padding)]
    _without_padding(layer)
    return [getattr(nn, f"AvgPool{layer.rank}d")(layer.pool_size, layer.strides)]


def _without_padding(layer: Pooling) -> None:
    if np.any(padding_of(layer)):
        raise Untranslated(f"{layer.name}: an average with padding")


def _torch_global(name: str) -> Any:
    from torch import nn

    class Global(nn.Module):
        def forward(self, x: Any) -> Any:
            axes = tuple(range(2, x.ndim))
            return x.mean(axes) if name == "mean" else x.amax(axes)

    return Global()


def _torch_normalization(layer: layers.BatchNormalization) -> Any:
    import torch
    from torch import nn

    if not (layer.scale and layer.center):
        raise Untranslated(f"{layer.name} without scale or center")
    gamma, beta, mean, variance = layer.get_weights()
    part = getattr(nn, f"BatchNorm{max(1, len(layer.input_shape or ()) - 2)}d")(
        len(gamma), eps=layer.epsilon, momentum=1 - layer.momentum
    )
    _fill(part, gamma, beta)
    part.running_mean, part.running_var = torch.from_numpy(mean), torch.from_numpy(variance)
    return part


# -- JAX ---------------------------------------------------------------------------------------------------------------


def as_jax(model: Sequential) -> tuple[Callable[..., Any], list[list[np.ndarray]]]:
    """(forward, weights by layer). `forward(weights, x, key)` returns logits where the model ends in
    softmax, and the weights with new moving statistics; without a key it is inference."""
    import jax

    model_layers = list(model.layers)
    for layer in model_layers:
        activation_of(layer)

    def forward(weights: Any, x: Any, key: Any = None) -> tuple[Any, Any]:
        changed = []
        for i, (layer, w) in enumerate(zip(model_layers, weights, strict=True)):
            x, w = _jax_layer(layer, w, x, None if key is None else jax.random.fold_in(key, i))
            changed.append(w)
            name = activation_of(layer)
            if name and not (name == "softmax" and layer is model_layers[-1]):
                x = jax.nn.gelu(x, approximate=False) if name == "gelu" else getattr(jax.nn, ACTIVATIONS[name][1])(x)
        return x, changed

    return forward, [layer.get_weights() for layer in model_layers]


def _jax_layer(layer: Layer, w: Any, x: Any, key: Any) -> tuple[Any, Any]:
    """(y, the layer's weights afterwards), before the activation."""
    import jax
    import jax.numpy as jnp

    if isinstance(layer, Convolution):
        names = "DHW"[3 - layer.rank :]
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        kernel = w[0].reshape(*w[0].shape[:-2], 1, -1) if depthwise else w[0]
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            layer.strides,
            padding_of(layer),
            rhs_dilation=layer.dilation_rate,
            dimension_numbers=(f"N{names}C", f"{names}IO", f"N{names}C"),
            feature_group_count=x.shape[-1] if depthwise else layer.groups,
        )
        return (y + w[1] if layer.use_bias else y), w
    if isinstance(layer, layers.Dense):
        return (x @ w[0] + w[1] if layer.use_bias else x @ w[0]), w
    if isinstance(layer, Pooling):
        window, strides = (1, *layer.pool_size, 1), (1, *layer.strides, 1)
        if "Max" in type(layer).__name__:
            pads = ((0, 0), *padding_of(layer), (0, 0))
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, pads), w
        _without_padding(layer)
        total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "VALID")
        return total / np.prod(layer.pool_size), w
    if global_pooling(layer):
        axes = tuple(range(1, x.ndim - 1))
        return (x.mean(axes) if global_pooling(layer) == "mean" else x.max(axes)), w
    if isinstance(layer, layers.BatchNormalization):
        gamma, beta, mean, variance = w
        if key is not None:
            axes, momentum = tuple(range(x.ndim - 1)), layer.momentum
            moving = mean, variance
            mean, variance = x.mean(axes), x.var(axes)
            kept = [momentum * a + (1 - momentum) * jax.lax.stop_gradient(b) for a, b in zip(moving, (mean, variance))]
            w = [gamma, beta, *kept]
        return (x - mean) * (gamma * jax.lax.rsqrt(variance + layer.epsilon)) + beta, w
    if isinstance(layer, layers.Dropout):
        if key is None or not layer.rate:
            return x, w
        kept = jax.random.bernoulli(key, 1 - layer.rate, x.shape)
        return jnp.where(kept, x / (1 - layer.rate), 0), w
    if isinstance(layer, layers.Flatten):
        return x.reshape(len(x), -1), w
    if isinstance(layer, layers.Activation):
        return x, w
    raise Untranslated(f"{layer.name} has no translation")


def trained_by_jax(model: Sequential) -> list[list[bool]]:
    """For each weight of each layer, whether training changes it."""
    return [[any(w is t for t in layer.trainable_weights) for w in layer.weights] for layer in model.layers]
