"""The ladder of sizes: each formula, evaluated, is the size that the model has."""

import math
import re
import runpy

import numpy as np
import pytest
from places import ROOT

import gpucnn
from gpucnn import layers
from gpucnn.errors import ArgumentError
from gpucnn.models import ladder
from gpucnn.runs import zoo

EXAMPLES = runpy.run_path(str(ROOT / "tests/exchange/examples.py"))
STACKS = {**EXAMPLES["LAYERS"], **EXAMPLES["IMAGES"]}


def value(formula):
    """What the left side of a formula is by Python's arithmetic, and what it says it is."""
    left, right = formula.replace(",", "").rsplit(" = ", 1)
    for sign, python in (("−", "-"), ("·", "*"), ("⌊", "("), (")/", ")//"), ("⌋", ")")):
        left = left.replace(sign, python)
    assert re.fullmatch(r"[\d+*/() -]+", left), formula
    return eval(left), int(right)


def test_the_ladder_of_the_slides_is_that_of_the_text():
    rungs = ladder(zoo.find("slides").build())
    assert [rung.name for rung in rungs][:3] == ["conv2d", "max_pooling2d", "conv2d_1"]
    assert [rung.output_shape for rung in rungs] == [
        (24, 24, 10), (12, 12, 10), (8, 8, 20), (4, 4, 20), (320,), (100,), (10,),
    ]  # fmt: skip
    assert rungs[0].size == ("⌊(28 − 5 + 2·0)/1⌋ + 1 = 24",)
    assert rungs[1].size == ("⌊(24 − 2 + 2·0)/2⌋ + 1 = 12",)
    assert rungs[4].size == ("4·4·20 = 320",)
    assert [rung.parameters_formula for rung in rungs] == [
        "(5·5·1 + 1)·10 = 260", "", "(5·5·10 + 1)·20 = 5,020", "", "", "(320 + 1)·100 = 32,100", "(100 + 1)·10 = 1,010",
    ]  # fmt: skip
    assert [rung.receptive_field for rung in rungs] == [(n, n) for n in (5, 6, 14, 16, 16, 28, 28)]
    assert rungs[0].activation_bytes == 4 * 24 * 24 * 10


@pytest.mark.parametrize("name", STACKS)
def test_each_formula_is_right_for_every_kind_of_layer(name):
    shape, stack = STACKS[name]
    model = gpucnn.Sequential([gpucnn.Input(shape), *stack()])
    rungs = ladder(model)
    for rung, layer in zip(rungs, model.layers, strict=True):
        assert rung.parameters == layer.count_params() and rung.flops == layer.flops(layer.input_shape)
        assert bool(rung.parameters_formula) == bool(rung.parameters)
        if rung.parameters:
            assert value(rung.parameters_formula) == (rung.parameters, rung.parameters)
        ends = rung.output_shape[:-1] if len(rung.output_shape) > 1 else rung.output_shape
        for formula in rung.size:
            computed, stated = value(formula)
            assert computed == stated and stated in ends
        if len(rung.size) > 1:
            assert tuple(value(formula)[1] for formula in rung.size) == ends


def reach(model, place):
    """Rows and columns of the input on which the middle output of a layer depends, by changing each pixel."""
    shape = model.input_shape[1:]
    pixels = np.arange(shape[0] * shape[1])
    x = np.zeros((1 + len(pixels), *shape), np.float32)
    x[1 + pixels, pixels // shape[1], pixels % shape[1]] = 1.0
    for layer in model.layers[: place + 1]:
        x = layer(x)
    middle = x[(slice(None), *(n // 2 for n in x.shape[1:-1]), slice(None))]
    changed = (middle[1:] != middle[0]).any(axis=-1).reshape(shape[:2])
    return tuple(int(np.ptp(np.flatnonzero(changed.any(axis=axis))) + 1) for axis in (1, 0))


def test_the_receptive_field_is_what_an_output_sees():
    model = gpucnn.Sequential(
        [
            gpucnn.Input((31, 33, 1)),
            layers.Conv2D(2, (3, 5), kernel_initializer="ones", padding="same"),
            layers.AveragePooling2D(2),
            layers.BatchNormalization(),
            layers.Conv2D(2, 3, dilation_rate=2, kernel_initializer="ones", padding="same"),
            layers.ZeroPadding2D(1),
            layers.DepthwiseConv2D(3, strides=2, depthwise_initializer="ones"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, kernel_initializer="ones"),
        ]
    )
    rungs = ladder(model)
    assert [rung.receptive_field for rung in rungs[:6]] == [(3, 5), (4, 6), (4, 6), (12, 14), (12, 14), (16, 18)]
    for place in range(6):
        assert reach(model, place) == rungs[place].receptive_field, rungs[place].name
    assert rungs[6].receptive_field == rungs[7].receptive_field == (31, 33)


def test_a_field_that_cannot_be_followed_is_none_and_stays_so():
    class Shuffle(layers.Layer):
        def forward(self, x, step, training):
            return x[:, ::-1], lambda dy, need_dx=True: dy[:, ::-1]

    model = gpucnn.Sequential(
        [gpucnn.Input((8, 8, 1)), Shuffle(), layers.Conv2D(1, 3), layers.Flatten(), layers.Dense(2)]
    )
    assert [rung.receptive_field for rung in ladder(model)] == [None] * 4
    assert ladder(model)[0].size == ()


def test_formulas_name_padding_dilation_and_axes_that_differ():
    model = gpucnn.Sequential(
        [
            gpucnn.Input((9, 8, 4)),
            layers.Conv2D(4, (3, 2), dilation_rate=(2, 1), padding="same", use_bias=False, groups=2),
            layers.CenterCrop(5, 4),
            layers.ZeroPadding2D(((1, 2), 1)),
        ]
    )
    conv, crop, padding = ladder(model)
    assert conv.size == ("⌊(9 − (2·(3 − 1) + 1) + 2·2)/1⌋ + 1 = 9", "⌊(8 − 2 + 0 + 1)/1⌋ + 1 = 8")
    assert conv.parameters_formula == "3·2·2·4 = 48"
    assert crop.size == ("9 − 2 − 2 = 5", "8 − 2 − 2 = 4")
    assert padding.size == ("5 + 1 + 2 = 8", "4 + 2·1 = 6")


def test_a_model_without_shapes_is_refused():
    with pytest.raises(ArgumentError, match=r"is not built: put Input\(\(28, 28, 1\)\) first"):
        ladder(gpucnn.Sequential([layers.Dense(3)]))


def test_memory_is_that_of_float32_outputs():
    for rung in ladder(zoo.find("vgg-small").build()):
        assert rung.activation_bytes == 4 * math.prod(rung.output_shape)
