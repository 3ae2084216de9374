"""The mistakes of every beginner are named, with what to do instead."""

import numpy as np
import pytest

from gpucnn import Input, Sequential, layers, losses
from gpucnn.errors import ArgumentError, DataError, GpucnnError, ShapeError, TrainingError
from gpucnn.models.saving import weights_sha256


def test_an_exhausted_generator_says_so(problem, small_model):
    x, y = problem
    used = iter([(x, y)])
    next(used)
    with pytest.raises(DataError, match="no batch"):
        small_model().fit(used, verbose=0)


def test_loss_that_is_not_a_number_stops_with_the_batch_and_the_largest_gradients(problem, small_model):
    x, y = problem
    x = x.copy()
    x[40] = np.nan
    model = small_model()
    model.fit(x[:32], y[:32], batch_size=16, verbose=0)
    before = weights_sha256(model)
    with pytest.raises(TrainingError, match=r"loss is nan at epoch 1, batch 0 .*Largest gradients: conv2d/kernel nan"):
        model.fit(x[32:], y[32:], batch_size=16, shuffle=False, verbose=0)
    assert weights_sha256(model) == before


def test_unscaled_images_get_one_warning(problem, small_model):
    x, y = problem
    model = small_model()
    with pytest.warns(UserWarning, match="unscaled") as caught:
        model.fit((x * 255).astype(np.uint8), y, epochs=2, verbose=0)
        model.fit((x * 255).astype(np.uint8), y, verbose=0)
    assert sum("unscaled" in str(w.message) for w in caught) == 1


def test_scaled_images_and_rescaling_models_get_no_warning(problem, small_model, recwarn):
    x, y = problem
    small_model().fit(x, y, verbose=0)
    model = Sequential([Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(4)])
    model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit((x * 255).astype(np.uint8), y, verbose=0)
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((8, 8, 1), r"batch axis is missing; give x\[None\]"),
        ((5, 8, 8), r"channel axis is missing; give x\[\.\.\., None\]"),
        ((8, 8), "batch and channel axis are missing"),
        ((5, 1, 8, 8), r"channels come first.*moveaxis"),
        ((5, 64), r"x\.reshape\(-1, 8, 8, 1\)"),
        ((5, 8, 8, 3), r"number of channels; give x\.mean\(-1, keepdims=True\), or"),
        ((5,), "are x and y exchanged"),
        ((5, 9, 8, 1), r"input_shape=\(9, 8, 1\)"),
    ],
)
def test_wrong_input_shapes_name_the_mistake_and_the_fix(shape, words, small_model):
    with pytest.raises(ShapeError, match=words):
        small_model().predict(np.zeros(shape, np.float32), verbose=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x, y: m.fit(x, y[:5]), "96 samples and y has shape"),
        (lambda m, x, y: m.fit(x), "y is missing"),
        (lambda m, x, y: m.fit((x, y)), "give x and y as two arguments"),
        (lambda m, x, y: m.layers[0](Input((8, 8, 1))), r"write Sequential\(\[\.\.\.\]\)"),
        (lambda m, x, y: m.fit(None, y), "x is missing"),
        (lambda m, x, y: m.fit(x[:0], y[:0]), "no sample"),
        (lambda m, x, y: m.fit(x, y, epochs=0), "epochs=0"),
        (lambda m, x, y: m.fit(x, y, batch_size=0), "batch_size=0"),
        (lambda m, x, y: m.fit(x, y, batch_size=2.5), r"batch_size=2\.5"),
        (lambda m, x, y: m.fit(x, y, nb_epoch=3), "nb_epoch=3: it is now called epochs"),
        (lambda m, x, y: m.fit(x, y, validation_split=1.5), r"validation_split=1\.5"),
        (lambda m, x, y: m.fit(x, y, validation_split=0.999), "empty part"),
        (lambda m, x, y: m.fit(x, y, validation_data=x), "validation_data must be"),
        (lambda m, x, y: m.fit(x, y, validation_freq=0), "validation_freq=0"),
        (lambda m, x, y: m.fit(x, y, steps_per_epoch=0), "steps_per_epoch=0"),
        (lambda m, x, y: m.fit(x, y, class_weight=[1, 2]), "class_weight"),
        (lambda m, x, y: m.fit(iter([(x, y)]), y), "belong in the batches"),
        (lambda m, x, y: m.fit(iter([(x, y)]), batch_size=3), "does not apply to a generator"),
        (lambda m, x, y: m.fit(iter([(x, y)]), class_weight={0: 1.0}), "class_weight needs arrays"),
        (lambda m, x, y: m.fit(iter([(x, y)]), validation_split=0.5), "validation_split needs arrays"),
        (lambda m, x, y: m.fit(iter([(x, y, y, y)])), "has 4 parts"),
        (lambda m, x, y: m.fit([]), "empty"),
        (lambda m, x, y: m.fit(np.array([["a"]]), y[:1]), "dtype"),
        (lambda m, x, y: m.fit(x, y + 4), "4"),
        (lambda m, x, y: m.fit(x, np.eye(4)[y]), "sparse"),
        (lambda m, x, y: m.evaluate(x, y, batches=3), "batches=3"),
        (lambda m, x, y: m.predict(x, size=3), "size=3"),
    ],
)
def test_wrong_calls_name_the_argument(call, words, problem, small_model):
    with pytest.raises(GpucnnError, match=words):
        call(small_model(), *problem)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss_weights": [1]}, "loss_weights"),
        ({"steps_per_execution": 0}, "steps_per_execution=0"),
        ({"metrics": "accuracy"}, r"must be a list"),
        ({"metric": ["accuracy"]}, "did you mean 'metrics'"),
        ({"optimizer": "adamm"}, "did you mean 'adam'"),
        ({"loss": ["mse"]}, r"loss=\['mse'\]: a model has one output"),
        ({"loss": {"dense": "mse"}}, "a model has one output"),
        ({"loss": "categorical_crossentropyy"}, "categorical_crossentropy"),
        ({"metrics": ["acuracy"]}, "unknown metric 'acuracy': did you mean 'accuracy'"),
        ({"metrics": ["accuracy", "AUC"]}, "metrics.AUC is not in gpucnn"),
        ({"weighted_metrics": ["recal"]}, "did you mean 'recall'"),
        ({"metrics": [None]}, "None is not a metric"),
        ({"metrics": [3]}, "3 is not a metric"),
        ({"metrics": [dict]}, "is not a metric"),
        ({"metrics": [{"class_name": "Recal", "config": {}}]}, "unknown Metric 'Recal'"),
    ],
)
def test_wrong_compile_arguments_are_refused(settings, words):
    with pytest.raises(ArgumentError, match=words):
        Sequential([Input((4,)), layers.Dense(2)]).compile(**settings)


def test_accepted_and_ignored_compile_arguments(problem, small_model):
    small_model(run_eagerly=True, jit_compile=False, auto_scale_loss=False).fit(*problem, verbose=0)


def test_fit_and_evaluate_need_compile_and_a_loss(problem):
    x, y = problem
    model = Sequential([Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])
    with pytest.raises(ArgumentError, match="fit before compile"):
        model.fit(x, y)
    model.compile("sgd")
    with pytest.raises(ArgumentError, match="needs a loss"):
        model.evaluate(x, y)


def test_numbers_in_messages_are_written_as_in_python(small_model):
    with pytest.raises(ShapeError) as caught:
        small_model().predict(np.zeros((5, 9, 9, 1)), verbose=0)
    assert "np." not in str(caught.value)


def test_loss_without_reduction_is_refused():
    model = Sequential([Input((4,)), layers.Dense(2)])
    with pytest.raises(ArgumentError, match="no single number"):
        model.compile("sgd", losses.MeanSquaredError(reduction="none"))


def test_crossentropy_on_a_linear_last_layer_warns_once(problem):
    x, y = problem
    model = Sequential([Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match=r"has no activation.*softmax") as caught:
        model.fit(x, y, epochs=2, verbose=0)
        model.fit(x, y, verbose=0)
    assert sum("has no activation" in str(w.message) for w in caught) == 1
