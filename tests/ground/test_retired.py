"""Names that Keras has and gpucnn lacks: absent when probed for, explained when used."""

import importlib
import sys

import pytest

from gpucnn import retired
from gpucnn.errors import ArgumentError

ABSENT = [
    ("gpucnn", "Model", "use Sequential"),
    ("gpucnn.activations", "glu", "use one of"),
    ("gpucnn.callbacks", "TensorBoard", "use CSVLogger"),
    ("gpucnn.constraints", "maxnorm", "it is called max_norm"),
    ("gpucnn.initializers", "Identity", "use Constant"),
    ("gpucnn.layers", "PReLU", "LeakyReLU"),
    ("gpucnn.losses", "Hinge", "use a crossentropy"),
    ("gpucnn.metrics", "AUC", "use an accuracy"),
    ("gpucnn.models", "Model", "use models.Sequential"),
    ("gpucnn.optimizers", "Lion", "use one of SGD"),
    ("gpucnn.regularizers", "OrthogonalRegularizer", "subclass Regularizer"),
    ("gpucnn.utils", "plot_model", r"model\.summary"),
]
every_module = pytest.mark.parametrize(("module", "name", "instead"), ABSENT, ids=[module for module, *_ in ABSENT])


@every_module
def test_a_name_that_gpucnn_lacks_is_absent_to_code_that_probes_for_it(module, name, instead):
    package = importlib.import_module(module)
    assert not hasattr(package, name)
    assert getattr(package, name, None) is None
    with pytest.raises(ImportError, match=f"cannot import name '{name}' from '{module}'"):
        exec(f"from {module} import {name}")


@every_module
def test_a_name_that_gpucnn_lacks_says_what_to_use_instead(module, name, instead):
    owner = module.removeprefix("gpucnn.")
    with pytest.raises(ArgumentError, match=rf"^{owner}\.{name} is not in gpucnn: .*{instead}"):
        getattr(importlib.import_module(module), name)


def test_every_module_with_absent_names_is_tested():
    modules = {
        name
        for name, module in sys.modules.items()
        if name.startswith("gpucnn") and vars(module).get("absent") is retired.absent and module is not retired
    }
    assert modules == {module for module, *_ in ABSENT}


@pytest.mark.parametrize("module", [module for module, *_ in ABSENT])
def test_other_names_are_unknown_as_in_any_module(module):
    package = importlib.import_module(module)
    assert not hasattr(package, "nonsense")
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nonsense'") as caught:
        package.nonsense  # noqa: B018
    assert not isinstance(caught.value, ArgumentError)
