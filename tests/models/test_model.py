"""Sequential: adding layers, names, shapes, weights, summary, errors."""

import numpy as np
import pytest

import gpucnn
from gpucnn import Input, Sequential, layers
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.models.saving import weights_sha256


def mnist_convnet():
    return Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def test_parameters_and_shapes_are_those_of_keras():
    model = mnist_convnet()
    assert model.count_params() == 34_826
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    assert [w.shape for w in model.weights] == [(3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,), (1600, 10), (10,)]
    assert [w.path for w in model.weights][:3] == ["conv2d/kernel", "conv2d/bias", "conv2d_1/kernel"]
    assert [layer.name for layer in model.layers] == [
        "conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten", "dropout", "dense",
    ]  # fmt: skip


def test_input_shape_on_the_first_layer_builds_the_model():
    model = Sequential()
    model.add(layers.Conv2D(10, (5, 5), activation="relu", input_shape=(28, 28, 1)))
    assert model.built
    assert model.output_shape == (None, 24, 24, 10)


def test_model_without_input_is_built_by_its_first_data(rng):
    model = Sequential([layers.Flatten(), layers.Dense(3)])
    assert not model.built and model.output_shape is None
    assert model.predict(rng.random((5, 4, 4, 1)), verbose=0).shape == (5, 3)
    assert model.input_shape == (None, 4, 4, 1)


def test_shrinking_to_nothing_names_the_layer_and_the_ladder_of_sizes():
    model = Sequential([Input((8, 8, 1)), layers.Conv2D(4, 3), layers.MaxPooling2D(2)])
    with pytest.raises(
        ShapeError, match=r"conv2d_1.*input \(8, 8, 1\) → conv2d \(6, 6, 4\) → max_pooling2d \(3, 3, 4\)"
    ):
        model.add(layers.Conv2D(4, 5))
    assert len(model.layers) == 2, "a layer that does not fit is not kept"
    model.add(layers.Conv2D(4, 3))
    assert model.output_shape == (None, 1, 1, 4)


def test_weights_lie_in_one_flat_array_at_multiples_of_256_bytes():
    model = mnist_convnet()
    before = model.get_weights()
    parameters = model.parameters
    for segment in parameters.segments:
        assert segment.offset * 4 % 256 == 0
        assert np.shares_memory(segment.weight.value, parameters.values)
        assert np.shares_memory(segment.weight.gradient, parameters.gradients)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    padding = np.ones(parameters.size, bool)
    for segment in parameters.segments:
        padding[segment.span] = False
    assert not parameters.values[padding].any()


def test_set_weights_checks_all_shapes_before_it_changes_one():
    model = mnist_convnet()
    before = model.get_weights()
    wrong = [w + 1 for w in before]
    wrong[-1] = np.zeros(3)
    with pytest.raises(ShapeError, match=r"dense/bias has shape \(10,\).*\(3,\)"):
        model.set_weights(wrong)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.set_weights([w + 1 for w in before])
    np.testing.assert_array_equal(model.get_weights()[0], before[0] + 1)
    with pytest.raises(ShapeError, match="6 weights and was given 1"):
        model.set_weights(before[:1])


def test_same_seed_same_weights_other_seed_other_weights():
    kernels = []
    for seed in (1, 1, 2):
        gpucnn.utils.set_random_seed(seed)
        kernels.append(mnist_convnet().get_weights()[0])
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()


def test_two_models_of_one_process_start_differently():
    assert (mnist_convnet().get_weights()[0] != mnist_convnet().get_weights()[0]).any()


def test_summary_shows_the_columns_of_keras(capsys):
    mnist_convnet().summary()
    text = capsys.readouterr().out
    for words in ("Layer (type)", "Output Shape", "Param #", "conv2d (Conv2D)", "(None, 26, 26, 32)", "18,496"):
        assert words in text
    assert "Total params: 34,826 (136.04 KB)" in text
    assert "Non-trainable params: 0 (0.00 B)" in text


def test_summary_goes_to_print_fn_and_can_show_more():
    model = mnist_convnet()
    model.layers[0].trainable = False
    lines = []
    model.summary(print_fn=lines.append, show_trainable=True, show_flops=True, line_length=100)
    text = "\n".join(lines)
    assert "Trainable params: 34,506" in text
    assert "FLOPs" in text
    assert f"{2 * 26 * 26 * 32 * 9:,}"[:3] in text
    model.summary(print_fn=lines.append, layer_range=("conv2d_1", "flatten"))
    assert "dropout" not in lines[-1]
    with pytest.raises(ArgumentError, match="no layer 'conv9'"):
        model.summary(layer_range=("conv9", "dense"))
    with pytest.raises(ArgumentError, match="line_length"):
        model.summary(positions=[0.3, 0.6, 1.0])


def test_a_notebook_shows_the_summary_as_a_table():
    inner = [layers.Conv2D(2, 3, padding="same", name="a<b"), layers.ReLU()]
    model = gpucnn.Sequential([gpucnn.Input((6, 6, 2)), layers.Residual(inner), layers.Flatten(), layers.Dense(3)])
    table = model._repr_html_()
    assert table.count("<tr>") == 6 and "a&lt;b (Conv2D)" in table and "a<b" not in table
    assert "<td>219</td>" in table and "Total params: 257" in table
    assert "not built" in gpucnn.Sequential([layers.Dense(3)])._repr_html_()


def test_summary_prints_names_as_they_are_and_nothing_that_controls_a_terminal(capsys):
    names = "[bold]a[/]", "b\x1b[2J\nall is well"
    model = Sequential([Input((3,)), *(layers.Dense(2, name=name) for name in names)], name="[red]m\x1b[31m")
    model.summary(line_length=120)
    shown = capsys.readouterr().out
    assert "[bold]a[/] (Dense)" in shown
    assert "b [2J all is well (Dense)" in shown
    assert 'Model: "[red]m [31m"' in shown


def test_summary_of_an_unbuilt_model_says_how_to_build_it(capsys):
    Sequential([layers.Dense(3)]).summary()
    text = capsys.readouterr().out
    assert "0 (unbuilt)" in text and "Input(" in text


def test_get_layer_and_pop():
    model = mnist_convnet()
    assert model.get_layer("dense") is model.layers[-1] is model.get_layer(index=-1)
    with pytest.raises(ArgumentError, match=r"no layer 'dens'.*conv2d"):
        model.get_layer("dens")
    with pytest.raises(ArgumentError, match="7 layers"):
        model.get_layer(index=7)
    with pytest.raises(ArgumentError, match="either"):
        model.get_layer()
    assert model.pop().name == "dense"
    assert model.output_shape == (None, 1600)
    model.add(layers.Dense(3))
    assert model.output_shape == (None, 3)
    assert Sequential().pop() is None


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (layers.Dense, "got the class"),
        ("dense", "needs a layer"),
        (Sequential(), "inside a Sequential"),
    ],
)
def test_adding_anything_but_a_layer_is_refused(thing, words):
    with pytest.raises(ArgumentError, match=words):
        Sequential().add(thing)


def test_names_are_unique():
    model = Sequential([layers.Dense(2, name="head")])
    with pytest.raises(ArgumentError, match="two layers are called 'head'"):
        model.add(layers.Dense(2, name="head"))
    with pytest.raises(ArgumentError, match="in the model already"):
        model.add(model.layers[0])


def test_input_comes_first_and_once():
    model = Sequential([Input((4,))])
    with pytest.raises(ArgumentError, match="first element"):
        model.add(Input((4,)))


def test_build_needs_and_keeps_a_shape():
    model = Sequential([layers.Dense(2)])
    with pytest.raises(ArgumentError, match="input shape is unknown"):
        model.build()
    model.build((None, 5))
    assert model.count_params() == 12
    with pytest.raises(ShapeError, match="cannot be rebuilt"):
        model.build((None, 6))
    with pytest.raises(ArgumentError, match="no layers"):
        Sequential().build((None, 5))


def test_config_round_trip_keeps_the_architecture():
    model = mnist_convnet()
    again = Sequential.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [w.path for w in again.weights] == [w.path for w in model.weights]


def test_trainable_is_set_for_all_layers():
    model = Sequential([Input((4,)), layers.Dense(2), layers.Dense(2)], trainable=False)
    assert not model.trainable and not model.trainable_weights
    model.trainable = True
    assert len(model.trainable_weights) == 4 and not model.non_trainable_weights


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.fit_generator, r"fit\(generator\)"),
        (lambda m: m.predict_classes, "argmax"),
        (lambda m: m.nonsense, "no attribute 'nonsense'"),
    ],
)
def test_retired_methods_name_what_to_call(call, words):
    with pytest.raises(AttributeError, match=words):
        call(Sequential())


def test_unknown_arguments_of_the_constructor_are_refused():
    with pytest.raises(ArgumentError, match="layer"):
        Sequential(layer=[])


def test_calling_the_model_gives_its_output(rng):
    model = mnist_convnet()
    x = rng.random((3, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(model(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_frozen_first_layers_stay_and_the_rest_learns(problem, small_model):
    x, y = problem
    model = small_model()
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(x, y, epochs=1, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[-1] != after[-1]).any()


def test_models_is_the_namespace_of_keras():
    from gpucnn import models

    model = mnist_convnet()
    copy = models.clone_model(model)
    assert copy.get_config() == model.get_config()
    assert (copy.get_weights()[0] != model.get_weights()[0]).any()
    with pytest.raises(ArgumentError, match=r"models\.Model.*Sequential"):
        models.Model  # noqa: B018


def test_a_layer_that_is_not_built_says_so():
    dense = layers.Dense(3)
    with pytest.raises(ArgumentError, match="not built yet"):
        dense.count_params()
    assert repr(dense) == "<Dense name=dense>"
    assert repr(Sequential([dense])) == "<Sequential name=sequential, 1 layers>"


def test_weights_of_a_layer_are_checked_too():
    dense = layers.Dense(3)
    dense.ensure_built((None, 2))
    assert repr(dense.weights[0]) == "<Weight dense/kernel (2, 3)>"
    with pytest.raises(ShapeError, match="2 weights and was given 1"):
        dense.set_weights([np.zeros((2, 3))])
    with pytest.raises(ShapeError, match=r"dense/bias has shape \(3,\)"):
        dense.set_weights([np.zeros((2, 3)), np.zeros(4)])
    with pytest.raises(ShapeError, match="given array has shape"):
        dense.weights[0].assign(np.zeros(6))
    dense.set_weights([np.ones((2, 3)), np.ones(3)])
    assert dense.get_weights()[1].sum() == 3


def test_layers_compute_in_float32_only():
    with pytest.raises(ArgumentError, match="dtype='float16'"):
        layers.Dense(3, dtype="float16")
    with pytest.raises(ArgumentError, match="weights are float32"):
        layers.Dense(3).add_weight((2,), dtype="int8")


@pytest.mark.parametrize("shape", [28, (28, 0, 1), (), (None, 28, 28, 1)])
def test_an_input_shape_lists_positive_extents_without_the_batch(shape):
    with pytest.raises(ArgumentError, match="shape"):
        layers.Dense(3, input_shape=shape)


def test_a_layer_without_forward_says_what_to_define():
    class Nothing(layers.Layer):
        pass

    with pytest.raises(NotImplementedError, match="Nothing must define forward"):
        Nothing()(np.zeros((2, 3)))


def test_calling_an_unbuilt_model_builds_it(rng):
    model = Sequential([layers.Flatten(), layers.Dense(2)])
    assert model(rng.random((3, 4, 4))).shape == (3, 2)


def test_a_shape_that_does_not_fit_leaves_an_unbuilt_model_free():
    model = Sequential([layers.Conv2D(2, 5)])
    with pytest.raises(ShapeError):
        model.build((None, 4, 4, 1))
    model.build((None, 6, 6, 1))
    assert model.output_shape == (None, 2, 2, 2)


def test_save_and_weights_take_keras_arguments(tmp_path, rng):
    model = mnist_convnet()
    model.save_weights(tmp_path / "w.safetensors")
    before = model.get_weights()
    model.set_weights([w * 0 for w in before])
    model.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model.save(tmp_path / "m.safetensors")
    assert gpucnn.models.load_model(tmp_path / "m.safetensors").count_params() == 34_826
    with pytest.raises(ArgumentError, match="include_optimizer"):
        model.save(tmp_path / "m.safetensors", include_optimizer=False)


def test_top_level_names_that_only_keras_has_say_what_to_use():
    with pytest.raises(ArgumentError, match=r"Model is not in gpucnn: use Sequential"):
        gpucnn.Model  # noqa: B018
    with pytest.raises(AttributeError, match="nonsense"):
        gpucnn.nonsense  # noqa: B018


def test_two_models_may_share_layers_and_be_trained_in_turn(problem):
    x, y = problem
    shared = layers.Dense(4, activation="tanh")
    make = lambda *head: Sequential([Input((8, 8, 1)), flatten, shared, *head])  # noqa: E731
    flatten = layers.Flatten()
    one, other = make(layers.Dense(4, activation="softmax")), make(layers.Dense(4, activation="softmax"))
    features = make()
    for model in (one, other):
        model.compile("adam", "sparse_categorical_crossentropy")
    for model in (one, other, one, other):
        before = shared.get_weights()[0]
        model.train_on_batch(x, y)
        assert (shared.get_weights()[0] != before).any(), "the update went past the shared layer"
        np.testing.assert_array_equal(model.layers[1].get_weights()[0], shared.get_weights()[0])
        np.testing.assert_allclose(features.predict(x, verbose=0), shared(x.reshape(96, 64)), rtol=1e-5, atol=1e-6)


def test_a_built_layer_does_not_take_inputs_of_another_shape():
    dense = layers.Dense(3)
    Sequential([Input((5,)), dense])
    with pytest.raises(ShapeError, match=r"built for inputs \(None, 5\) and cannot take \(None, 4\): make a new layer"):
        Sequential([Input((4,)), dense])


def test_calls_in_training_drop_others_each_time_and_again_the_same_from_the_same_seed():
    x = np.ones((50, 6), np.float32)

    def samples():
        gpucnn.utils.set_random_seed(5)
        model = Sequential([Input((6,)), layers.Dropout(0.5), layers.Dropout(0.5)])
        return np.stack([model(x, training=True) for _ in range(20)])

    drawn = samples()
    # Of a value that is 4 with probability 1/4, the standard deviation is √3; over 20 samples it lies near it.
    assert np.mean(drawn.std(axis=0)) == pytest.approx(3**0.5, rel=0.15)
    np.testing.assert_array_equal(samples(), drawn)


def test_calls_leave_the_masks_of_training_alone(problem, small_model):
    ends = []
    for calls in (0, 3):
        gpucnn.utils.set_random_seed(5)
        model = small_model()
        for _ in range(calls):
            model(problem[0], training=True)
        model.fit(*problem, verbose=0)
        ends.append(weights_sha256(model))
    assert ends[0] == ends[1]
