"""The optimizers compared with those of Keras of the same names, over many steps."""

import inspect

import numpy as np
import pytest
from every_optimizer import give_gradients, make_parameters, values_of

from gpucnn import Input, Sequential, layers, optimizers, utils
from gpucnn.retired import RENAMED

KERAS = {
    "Adamax": [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    "Lion": [{}, {"beta_1": 0.7, "beta_2": 0.8, "weight_decay": 0.1}],
    "Ftrl": [
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.1,
            "learning_rate_power": -0.7,
            "l1_regularization_strength": 0.1,
            "l2_regularization_strength": 0.2,
            "l2_shrinkage_regularization_strength": 0.05,
            "beta": 0.3,
        },
    ],
    "Lamb": [{"learning_rate": 0.1}, {"learning_rate": 0.1, "weight_decay": 0.1, "beta_2": 0.9}],
    "Muon": [
        {"learning_rate": 0.05},
        {"learning_rate": 0.05, "nesterov": False, "rms_rate": None, "ns_steps": 3, "adam_lr_ratio": 0.5},
        {"learning_rate": 0.05, "exclude_layers": ["layer_1"], "weight_decay": 0.1, "adam_weight_decay": 0.2},
    ],
    "Adam": [{"learning_rate": 0.1}, {"amsgrad": True}],
    "Nadam": [{"learning_rate": 0.1}],
    "Adadelta": [{"learning_rate": 1.0}],
}
CASES = [(name, arguments) for name, several in KERAS.items() for arguments in several]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras with NumPy 2
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=lambda value: str(value)[:60])
def test_thirty_steps_are_those_of_keras(name, arguments):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    rng = np.random.default_rng(0)
    parameters = make_parameters((6, 4), (3, 5), (5,), (2, 2, 3, 4))
    ours, theirs = getattr(optimizers, name)(**arguments), getattr(keras.optimizers, name)(**arguments)
    ours.build(parameters)
    variables = [keras.Variable(value, name=f"layer_{i}") for i, value in enumerate(values_of(parameters))]
    theirs.build(variables)
    for _ in range(30):
        give_gradients(parameters, rng)
        gradients = [segment.weight.gradient.copy() for segment in parameters.segments]
        ours.apply(parameters)
        theirs.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], variables)
    for variable, value in zip(variables, values_of(parameters), strict=True):
        np.testing.assert_allclose(
            value, variable.value.detach().numpy(), rtol=0, atol=2e-5 * max(1.0, np.abs(value).max())
        )


@pytest.mark.parametrize("name", KERAS)
def test_arguments_and_defaults_are_those_of_keras(name):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    theirs = {
        p.name: p.default
        for p in inspect.signature(getattr(keras.optimizers, name).__init__).parameters.values()
        if p.name not in ("self", "kwargs", "loss_scale_factor", "name")
    }
    optimizer = getattr(optimizers, name)()
    for argument, default in theirs.items():
        assert argument not in RENAMED
        mine = getattr(optimizer, argument)
        assert mine == default or (default is None and not mine), argument


def test_muon_makes_steps_along_an_orthogonal_matrix():
    """With the coefficients of Newton and Schulz (3/2, -1/2), which converge, the singular values become 1."""
    rng = np.random.default_rng(0)
    for shape in ((6, 4), (4, 6)):
        parameters = make_parameters(shape)
        before = values_of(parameters)[0]
        optimizer = optimizers.Muon(
            1.0, muon_a=1.5, muon_b=-0.5, muon_c=0.0, ns_steps=40, rms_rate=None, weight_decay=None
        )
        optimizer.build(parameters)
        give_gradients(parameters, rng)
        optimizer.apply(parameters)
        singular = np.linalg.svd(before - values_of(parameters)[0], compute_uv=False)
        np.testing.assert_allclose(singular, 1, atol=1e-5)


@pytest.mark.parametrize("name", ["Adamax", "Lion", "Ftrl", "Lamb", "Muon"])
def test_a_model_learns_with_it(name):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 128)
    x = rng.normal(0, 0.5, (128, 6, 6, 1)).astype(np.float32)
    x[:, 2:4] += y[:, None, None, None]
    utils.set_random_seed(0)
    model = Sequential(
        [Input((6, 6, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(2, "softmax")]
    )
    rate = {"Lion": 0.003, "Ftrl": 0.3}.get(name, 0.02)
    model.compile(getattr(optimizers, name)(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=12, batch_size=32, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
