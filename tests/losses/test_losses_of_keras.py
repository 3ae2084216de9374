"""Losses compared with those of Keras of the same names and arguments, and their gradients in float64."""

import numpy as np
import pytest
from differences import slope_at
from refusals import refuses

from gpucnn import Input, Sequential, layers, losses, optimizers, utils
from gpucnn.errors import ArgumentError, DataError

EPS = np.finfo(np.float64).eps

SIGNS, ONES, MEASURES, SHARES, COUNTS, NUMBERS, MASKS = (
    "signs",
    "ones",
    "measures",
    "shares",
    "counts",
    "numbers",
    "masks",
)

KERAS = [
    ("MeanAbsolutePercentageError", MEASURES, "reals", {}),
    ("MeanSquaredLogarithmicError", COUNTS, "positive", {}),
    ("LogCosh", MEASURES, "reals", {}),
    ("Poisson", COUNTS, "positive", {}),
    ("KLDivergence", SHARES, "probabilities", {}),
    ("Hinge", SIGNS, "reals", {}),
    ("Hinge", ONES, "reals", {"reduction": "sum"}),
    ("SquaredHinge", SIGNS, "reals", {}),
    ("CategoricalHinge", "one_hot", "reals", {}),
    ("CosineSimilarity", MEASURES, "reals", {}),
    ("BinaryFocalCrossentropy", ONES, "fractions", {}),
    (
        "BinaryFocalCrossentropy",
        ONES,
        "fractions",
        {"apply_class_balancing": True, "gamma": 1.5, "label_smoothing": 0.1},
    ),
    ("BinaryFocalCrossentropy", ONES, "reals", {"from_logits": True, "alpha": 0.6}),
    ("CategoricalFocalCrossentropy", "one_hot", "probabilities", {}),
    ("CategoricalFocalCrossentropy", "one_hot", "reals", {"from_logits": True, "gamma": 0.5, "label_smoothing": 0.2}),
    ("CategoricalGeneralizedCrossEntropy", NUMBERS, "probabilities", {"q": 0.7}),
    ("Dice", MASKS, "fractions", {}),
    ("Dice", MASKS, "fractions", {"axis": (1, 2)}),
    ("Dice", MASKS, "fractions", {"axis": (0, 1)}),
    ("Tversky", MASKS, "fractions", {"alpha": 0.3, "beta": 0.8, "axis": (2, 1)}),
    ("Tversky", MASKS, "fractions", {}),
]


def labels_of(kind, rng):
    numbers = rng.integers(0, 4, (6, 3))
    return {
        SIGNS: lambda: rng.choice([-1.0, 1.0], (6, 3, 4)),
        ONES: lambda: rng.integers(0, 2, (6, 3, 4)).astype(float),
        MASKS: lambda: rng.integers(0, 2, (6, 3, 4)).astype(float),
        MEASURES: lambda: rng.normal(size=(6, 3, 4)),
        SHARES: lambda: rng.dirichlet(np.ones(4), (6, 3)),
        COUNTS: lambda: rng.poisson(2.0, (6, 3, 4)).astype(float),
        NUMBERS: lambda: numbers,
        "one_hot": lambda: np.eye(4)[numbers],
    }[kind]()


def outputs_of(kind, rng):
    return {
        "reals": lambda: rng.normal(size=(6, 3, 4)),
        "positive": lambda: rng.uniform(0.2, 3, (6, 3, 4)),
        "fractions": lambda: rng.uniform(0.1, 0.9, (6, 3, 4)),
        "probabilities": lambda: rng.dirichlet(np.ones(4), (6, 3)),
    }[kind]()


every_loss = pytest.mark.parametrize(
    ("name", "labels", "outputs", "arguments"), KERAS, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(KERAS)]
)


@every_loss
def test_values_and_gradients_are_those_of_keras(name, labels, outputs, arguments):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch, on which Keras computes here, is not installed")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras computes on another backend: set KERAS_BACKEND=torch")
    rng = np.random.default_rng(0)
    y_true, y_pred = labels_of(labels, rng), outputs_of(outputs, rng).astype(np.float32)
    ours, theirs = getattr(losses, name)(**arguments), getattr(keras.losses, name)(**arguments)
    assert ours.name == theirs.name
    tensor = torch.from_numpy(y_pred).requires_grad_()
    expected = theirs(torch.from_numpy(np.asarray(y_true, np.int64 if labels == NUMBERS else np.float32)), tensor)
    expected.backward()
    assert ours(y_true, y_pred) == pytest.approx(float(expected.detach()), rel=1e-5)
    values, backward = losses.forward(ours, y_true, y_pred)
    gradient = backward(losses.shares(values, None, ours.reduction))
    scale = max(1.0, np.abs(gradient).max())
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=0, atol=1e-5 * scale)


@every_loss
def test_gradients_agree_with_central_differences(name, labels, outputs, arguments):
    """No kink is nearer than a step: the draws are continuous and the seed is fixed."""
    rng, step = np.random.default_rng(1), 1e-6
    loss = getattr(losses, name)(**arguments)
    y_true, y_pred = labels_of(labels, rng), outputs_of(outputs, rng)
    values, backward = loss.forward(y_true, y_pred)
    dvalues = rng.uniform(-1, 1, values.shape)
    gradient = backward(dvalues)
    assert gradient.shape == y_pred.shape
    largest = max(1.0, np.abs(values).max(), np.abs(gradient).max())
    for index in [tuple(rng.integers(0, y_pred.shape)) for _ in range(20)]:
        expected = slope_at(index, y_pred, lambda: loss.forward(y_true, y_pred)[0], dvalues, step)
        # rounding over the step, and a third derivative of at most 10⁵ (of percentages, near a target of 0)
        assert abs(gradient[index] - expected) <= largest * (100 * EPS / step * values.size + 1e5 * step**2)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("kld", "KLDivergence"),
        ("kl_divergence", "KLDivergence"),
        ("mape", "MeanAbsolutePercentageError"),
        ("MSLE", "MeanSquaredLogarithmicError"),
        ("log_cosh", "LogCosh"),
        ("poisson", "Poisson"),
        ("hinge", "Hinge"),
        ("squared_hinge", "SquaredHinge"),
        ("categorical_hinge", "CategoricalHinge"),
        ("cosine_similarity", "CosineSimilarity"),
        ("binary_focal_crossentropy", "BinaryFocalCrossentropy"),
        ("categorical_focal_crossentropy", "CategoricalFocalCrossentropy"),
        ("dice", "Dice"),
        ("tversky", "Tversky"),
    ],
)
def test_names_and_functions_stand_for_the_classes(alias, name):
    assert type(losses.get(alias)) is getattr(losses, name)
    function = getattr(losses, alias)
    assert type(losses.get(function)) is getattr(losses, name)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ("kl_divergence", "softmax"),
        (losses.CategoricalFocalCrossentropy(), "softmax"),
        (losses.CategoricalFocalCrossentropy(from_logits=True), None),
        ("categorical_hinge", None),
        ("cosine_similarity", "softmax"),
        (losses.Dice(axis=(1,)), "softmax"),
        ("dice", "softmax"),
    ],
    ids=str,
)
def test_a_model_learns_with_it(loss, activation):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 3, 96)
    x = (rng.normal(0, 0.4, (96, 6)) + 2 * np.eye(3)[numbers].repeat(2, axis=1)).astype(np.float32)
    utils.set_random_seed(0)
    model = Sequential([Input((6,)), layers.Dense(3, activation)])
    model.compile(optimizers.Adam(0.05), loss, metrics=["categorical_accuracy"])
    history = model.fit(x, np.eye(3)[numbers], epochs=12, batch_size=32, verbose=0)
    assert history.history["categorical_accuracy"][-1] > 0.9


def test_samples_with_larger_errors_count_more_in_a_focal_crossentropy():
    plain, focal = losses.BinaryCrossentropy(), losses.BinaryFocalCrossentropy()
    ratio = [plain([[1.0]], [[p]]) / focal([[1.0]], [[p]]) for p in (0.9, 0.1)]
    assert ratio[0] == pytest.approx(100, rel=1e-4) and ratio[1] == pytest.approx(1 / 0.81, rel=1e-4)


def test_regions_that_agree_have_no_loss():
    mask = np.random.default_rng(0).integers(0, 2, (2, 5, 5, 1)).astype(float)
    assert losses.Dice()(mask, mask) == pytest.approx(0, abs=1e-6)
    assert losses.Dice(axis=(1, 2, 3)).values(mask, 1 - mask).tolist() == [1.0, 1.0]


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: losses.CosineSimilarity(axis=1), r"CosineSimilarity\(axis=1\)"),
        (lambda: losses.CategoricalFocalCrossentropy(alpha=[1, 2]), "class_weight"),
        (lambda: losses.CategoricalFocalCrossentropy(axis=1), "last axis"),
        (lambda: losses.CategoricalGeneralizedCrossEntropy(1.0), "q=1.0"),
        (lambda: losses.BinaryFocalCrossentropy(gamma=-1), "gamma=-1"),
        (lambda: losses.Dice(axis="all"), "axis='all'"),
        (lambda: losses.Dice(axis=(1, 4))(np.ones((2, 3)), np.ones((2, 3))), r"axis=\(1, 4\)"),
        (lambda: losses.Circle, "losses.Circle is not in gpucnn"),
        (lambda: losses.get("ctc"), "recurrent"),
    ],
)


def test_wrong_labels_are_refused():
    with pytest.raises(DataError, match="categorical_focal"):
        losses.CategoricalFocalCrossentropy()([1, 2], np.ones((2, 3)))
    with pytest.raises(DataError, match="out of range"):
        losses.BinaryFocalCrossentropy()([[2.0]], [[0.5]])
