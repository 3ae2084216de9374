"""One optimizer of each kind, and parameters that it updates."""

import numpy as np
import pytest

from gpucnn import initializers, optimizers
from gpucnn.layers.layer import Layer
from gpucnn.layers.parameters import Parameters

TINY = 1e-30
"""An epsilon that does not matter: for sums by hand, and because Keras and PyTorch place it apart."""
EPS32, EPS64 = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
KINDS = {
    "sgd": lambda **tail: optimizers.SGD(0.1, **tail),
    "momentum": lambda **tail: optimizers.SGD(0.1, momentum=0.9, **tail),
    "nesterov": lambda **tail: optimizers.SGD(0.1, momentum=0.9, nesterov=True, **tail),
    "adam": lambda **tail: optimizers.Adam(0.1, **tail),
    "amsgrad": lambda **tail: optimizers.Adam(0.1, amsgrad=True, **tail),
    "adamw": lambda **tail: optimizers.AdamW(0.1, **tail),
    "nadam": lambda **tail: optimizers.Nadam(0.1, **tail),
    "rmsprop": lambda **tail: optimizers.RMSprop(0.1, **tail),
    "rmsprop_full": lambda **tail: optimizers.RMSprop(0.1, momentum=0.9, centered=True, **tail),
    "adagrad": lambda **tail: optimizers.Adagrad(0.1, **tail),
    "adadelta": lambda **tail: optimizers.Adadelta(0.1, **tail),
    "adamax": lambda **tail: optimizers.Adamax(0.1, **tail),
    "lion": lambda **tail: optimizers.Lion(0.1, **tail),
    "ftrl": lambda **tail: optimizers.Ftrl(0.1, **tail),
    "lamb": lambda **tail: optimizers.Lamb(0.1, **tail),
    "muon": lambda **tail: optimizers.Muon(0.1, **tail),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make_parameters(*shapes, dtype=np.float32, frozen=(), **weight):
    """One layer for each shape, with one weight `layer_0/kernel`, …; the flat arrays in `dtype`."""
    layers = []
    for i, shape in enumerate(shapes):
        layer = Layer(name=f"layer_{i}")
        kernel = layer.add_weight(shape, initializers.RandomNormal(stddev=1.0, seed=i), name="kernel", **weight)
        kernel.path = f"layer_{i}/kernel"
        layer.trainable = i not in frozen
        layers.append(layer)
    parameters = Parameters(layers)
    if dtype != np.float32:
        parameters.values = parameters.values.astype(dtype)
        parameters.gradients = parameters.gradients.astype(dtype)
        for segment in parameters.segments:
            segment.weight.value = parameters.values[segment.span].reshape(segment.weight.shape)
            segment.weight.gradient = parameters.gradients[segment.span].reshape(segment.weight.shape)
    return parameters


def give_gradients(parameters, rng, scale=1.0):
    for segment in parameters.segments:
        segment.weight.gradient[...] = rng.normal(size=segment.weight.shape) * scale


def values_of(parameters):
    return [segment.weight.value.copy() for segment in parameters.segments]


def padding_of(parameters, array):
    inside = np.zeros(parameters.size, bool)
    for segment in parameters.segments:
        inside[segment.span] = True
    return array[~inside]


def scalar(optimizer, gradients, start=1.0):
    """The successive values of one weight, in float64, for these gradients."""
    parameters = make_parameters((1,), dtype=np.float64)
    weight = parameters.segments[0].weight
    weight.value[...] = start
    optimizer.build(parameters)
    seen = []
    for gradient in gradients:
        weight.gradient[...] = gradient
        optimizer.apply(parameters)
        seen.append(float(weight.value[0]))
    return seen
