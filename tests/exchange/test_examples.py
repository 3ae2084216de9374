"""The examples leave no layer and no activation out."""

from examples import BRANCHES, IMAGES, LAYERS, OBJECTS, model_of, random_model

from gpucnn import layers
from gpucnn.ops import activation as ops


def test_the_examples_have_every_layer():
    used = {type(layer).__name__ for _, stack in (LAYERS | IMAGES | BRANCHES).values() for layer in stack()}
    classes = {getattr(layers, name) for name in layers.__all__} - {layers.Layer, layers.InputLayer}
    assert used == {cls.__name__ for cls in classes}


def test_the_examples_have_every_activation():
    assert {name.removeprefix("function_") for name in OBJECTS} == set(ops.FUNCTIONS)


def test_every_example_can_be_built():
    for shape, stack in (LAYERS | IMAGES | OBJECTS | BRANCHES).values():
        assert model_of(shape, stack()).built


def test_random_models_differ_and_can_be_repeated():
    first = [[repr(layer) for layer in random_model(seed).layers] for seed in range(10)]
    assert first == [[repr(layer) for layer in random_model(seed).layers] for seed in range(10)]
    assert len({tuple(names) for names in first}) > 5
