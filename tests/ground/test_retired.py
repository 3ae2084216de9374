"""Names that Keras has and gpucnn lacks: absent when probed for, explained when used."""

import importlib
import sys

import pytest
from places import ROOT

import gpucnn
from gpucnn import activations, initializers, layers, losses, metrics, optimizers, retired
from gpucnn.errors import ArgumentError, did_you_mean

ABSENT = [
    ("gpucnn", "Model", "use Sequential"),
    ("gpucnn.activations", "glu", "use one of"),
    ("gpucnn.callbacks", "RemoteMonitor", "use LambdaCallback"),
    ("gpucnn.constraints", "maxnorm", "it is called max_norm"),
    ("gpucnn.datasets", "cifar100", "image_folder reads others"),
    ("gpucnn.initializers", "STFT", "no audio layers"),
    ("gpucnn.layers", "SReLU", "LeakyReLU"),
    ("gpucnn.losses", "Circle", "use a crossentropy"),
    ("gpucnn.metrics", "AUC", "use an accuracy"),
    ("gpucnn.models", "Model", "use models.Sequential"),
    ("gpucnn.optimizers", "Adafactor", "use one of SGD"),
    ("gpucnn.regularizers", "OrthogonalRegularizer", "subclass Regularizer"),
    ("gpucnn.utils", "plot_model", r"model\.summary"),
]
every_module = pytest.mark.parametrize(("module", "name", "instead"), ABSENT, ids=[module for module, *_ in ABSENT])


@every_module
def test_a_name_that_gpucnn_lacks_is_absent_to_code_that_probes_for_it(module, name, instead):
    package = importlib.import_module(module)
    assert not hasattr(package, name)
    assert getattr(package, name, None) is None
    said = (
        rf"\.{name} is not in gpucnn: .*{instead}" if hasattr(package, "__path__") else f"name '{name}' from '{module}'"
    )
    with pytest.raises(ImportError, match=said):
        exec(f"from {module} import {name}")


@every_module
def test_a_name_that_gpucnn_lacks_says_what_to_use_instead(module, name, instead):
    owner = module.removeprefix("gpucnn.")
    with pytest.raises(ArgumentError, match=rf"^{owner}\.{name} is not in gpucnn: .*{instead}"):
        getattr(importlib.import_module(module), name)


def test_a_package_of_old_keras_says_what_to_use_instead():
    with pytest.raises(ImportError, match=r"^gpucnn\.preprocessing is not in gpucnn: .*train --data FOLDER"):
        importlib.import_module("gpucnn.preprocessing.image")
    with pytest.raises(ImportError, match=r"^gpucnn\.keras is not in gpucnn: leave out \.keras, as in gpucnn\.layers"):
        importlib.import_module("gpucnn.keras.layers")
    with pytest.raises(AttributeError, match=r"leave out \.keras"):
        _ = gpucnn.keras


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


LOSSES = (
    "bce binary_crossentropy categorical_crossentropy categorical_generalized_cross_entropy ce crossentropy huber mae "
    "mean_absolute_error mean_squared_error mse sparse_categorical_crossentropy"
)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("sparse_crossentropy", "sparse_categorical_crossentropy"),
        ("sparce_crossentropy", "sparse_categorical_crossentropy"),
        ("sparse_categorial_crossentropy", "sparse_categorical_crossentropy"),
        ("sparsecategoricalcrossentropy", "sparse_categorical_crossentropy"),
        ("sparse_categorical_cross_entropy", "sparse_categorical_crossentropy"),
        ("cross_entropy", "crossentropy"),
        ("crossentropi", "crossentropy"),
        ("categorical_cross_entropy", "categorical_crossentropy"),
        ("categorical crossentropy", "categorical_crossentropy"),
        ("catagorical_crossentropy", "categorical_crossentropy"),
        ("binary_cross_entropy", "binary_crossentropy"),
        ("binary_entropy", "binary_crossentropy"),
        ("mean_square_error", "mean_squared_error"),
        ("squared_error", "mean_squared_error"),
        ("mean_absolut_error", "mean_absolute_error"),
        ("hubber", "huber"),
        ("mse_loss", "mse"),
    ],
)
def test_the_nearest_name_shares_the_most_words_and_then_letters(misspelt, meant):
    assert did_you_mean(misspelt, LOSSES.split()) == f"did you mean {meant!r}?"


@pytest.mark.parametrize("name", ["l2", "logloss", "", "x", "_", "zzzz"])
def test_a_name_that_is_near_to_none_gets_no_suggestion(name):
    assert did_you_mean(name, LOSSES.split()) == ""


def test_names_that_are_equally_near_are_all_suggested():
    assert (
        did_you_mean("conv9d", ["conv2d", "matmul", "conv3d", "conv2d_grad_input"])
        == "did you mean 'conv2d' or 'conv3d'?"
    )
    assert did_you_mean("Conv2d", ["Conv2D", "Conv1D", "DepthwiseConv2D"]) == "did you mean 'Conv2D'?"
    assert did_you_mean("acc", ["loss", "accuracy"]) == "did you mean 'accuracy'?"
    assert did_you_mean("keras_intro", ["keras-intro", "torres"]) == "did you mean 'keras-intro'?"


def test_there_is_one_function_that_suggests_names():
    users = [path.name for path in sorted((ROOT / "gpucnn").rglob("*.py")) if "difflib" in path.read_text()]
    assert users == ["errors.py"]


def test_a_misspelt_name_of_a_module_or_a_method_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match=r"'gpucnn\.layers' has no attribute 'Conv2d': did you mean 'Conv2D'\?"):
        layers.Conv2d  # noqa: B018
    with pytest.raises(AttributeError, match=r"did you mean 'Dropout'\?"):
        layers.DropOut  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute 'summery': did you mean 'summary'\?"):
        gpucnn.Sequential().summery  # noqa: B018


def test_what_is_misspelt_in_compile_is_answered_with_the_nearest_name():
    for module, misspelt, meant in (
        (losses, "sparse_crossentropy", "sparse_categorical_crossentropy"),
        (losses, "cross_entropy", "crossentropy"),
        (metrics, "sparse_accuracy", "sparse_categorical_accuracy"),
        (optimizers, "rms_prob", "rmsprop"),
        (initializers, "he_uniformal", "he_uniform"),
        (activations, "leaky", "leaky_relu"),
    ):
        with pytest.raises(ArgumentError, match=f"unknown .* {misspelt!r}: did you mean {meant!r}"):
            module.get(misspelt)
