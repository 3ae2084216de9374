"""The examples in the docstrings of layers: each runs alone, and every layer has one."""

import doctest
import importlib
import pkgutil

import pytest

import gpucnn
from gpucnn import layers

MODULES = [importlib.import_module(f"gpucnn.layers.{module.name}") for module in pkgutil.iter_modules(layers.__path__)]
EXAMPLES = [
    docstring
    for module in MODULES
    for docstring in doctest.DocTestFinder().find(module, globs={})
    if docstring.examples
]


@pytest.mark.parametrize("docstring", EXAMPLES, ids=lambda docstring: docstring.name.rpartition(".")[2])
def test_the_example_of_a_docstring_runs_alone(docstring):
    differences = []
    with gpucnn.using("numpy"):
        result = doctest.DocTestRunner(verbose=False).run(docstring, out=differences.append)
    assert result.attempted and not result.failed, "".join(differences)


def test_every_layer_has_an_example():
    names = {docstring.name.rpartition(".")[2] for docstring in EXAMPLES}
    assert {getattr(layers, name).__name__ for name in layers.__all__} <= names
