"""Layers, losses, optimizers, activations and initializers of Keras are in gpucnn, or an error explains why not."""

import inspect

import pytest

import gpucnn
from gpucnn.errors import ArgumentError

MODULES = ("layers", "losses", "optimizers", "activations", "initializers")


@pytest.mark.parametrize("module", MODULES)
def test_each_name_is_there_or_says_what_to_use_instead(module):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    ours, theirs = getattr(gpucnn, module), getattr(keras, module)
    names = [name for name, value in vars(theirs).items() if not name.startswith("_") and not inspect.ismodule(value)]
    unexplained = []
    for name in names:
        try:
            getattr(ours, name)
        except AttributeError as error:
            if not isinstance(error, ArgumentError) or "is not in gpucnn: " not in str(error):
                unexplained.append(name)
    assert not set(unexplained) - {"serialize", "deserialize", "get"}
