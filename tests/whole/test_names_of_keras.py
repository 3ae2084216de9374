"""Every public layer, loss, optimizer, activation and initializer of Keras is in gpucnn, or its absence is explained."""

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
        except ArgumentError as error:
            assert "is not in gpucnn: " in str(error)
        except AttributeError:
            unexplained.append(name)
    assert not set(unexplained) - {"serialize", "deserialize", "get"}
