"""Every public layer, loss, optimizer, activation and initializer of Keras is here, or its absence is explained."""

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
    unexplained = [name for name in names if not is_there_or_explained(ours, name)]
    assert not set(unexplained) - {"serialize", "deserialize", "get"}


def is_there_or_explained(module, name):
    try:
        getattr(module, name)
    except AttributeError as error:
        return isinstance(error, ArgumentError) and "is not in gpucnn: " in str(error)
    return True
